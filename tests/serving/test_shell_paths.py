"""Homes with odd names: those that Triton's shell would misread are refused at once, and all others work."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.ledger import Champion
from rushes.serving.bundle import Bundle
from rushes.serving.environment import OFF
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address, start_triton, stop_triton
from rushes.serving.shell_paths import check_triton_paths
from rushes.store import Store


@pytest.mark.parametrize("name", ["a b", "ü", "it's", 'q"q', "$HOME", "a;b", "a(b)", "a&b", "a*", "[k]", "a\nb", "#"])
@pytest.mark.parametrize("variable", ["RUSHES_HOME", "XDG_CACHE_HOME"])
def test_a_name_that_a_shell_would_misread_is_refused_with_the_remedy(
    triton_possible: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    odd, plain = tmp_path / name, tmp_path / "plain"
    monkeypatch.setenv("XDG_CACHE_HOME", str(odd if variable == "XDG_CACHE_HOME" else plain))
    home = odd if variable == "RUSHES_HOME" else plain
    with pytest.raises(UserError, match=f"set {variable} to a folder named with plain letters.* or {OFF}=1"):
        start_triton(home=home)
    assert not home.exists() and not odd.exists()


def test_a_link_to_a_folder_with_an_odd_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / "a b")
    with pytest.raises(UserError, match="a b"):  # Triton's paths have no links
        check_triton_paths(tmp_path / "plain")


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_whatever_is_let_through_is_one_word_of_a_shell(name: str) -> None:
    import shlex

    folder = Path("/home") / name
    try:
        check_triton_paths(folder)
    except UserError:
        return
    resolved = str(folder.resolve())
    assert resolved.isascii() and shlex.split(resolved) == [resolved] and not set("*?[$`\\'\"") & set(resolved)


@pytest.mark.servers
def test_all_signs_that_are_allowed_work(
    triton_possible: None,
    tmp_path: Path,
    free_port: Callable[[], int],
    five_actions: Bundle,
    promote: Callable[..., Champion],
    store: Store,
) -> None:
    home = tmp_path / "a+b=c@de,f:g~h-_.j"
    promote("odd", 1, five_actions.folder)
    try:
        server = start_triton(home=home, port=free_port())
        (state,) = reconcile(home=home, store=store, server=address(server))
        assert (state.action, state.served_by) == ("deployed", "triton")
    finally:
        stop_triton(home=home)
