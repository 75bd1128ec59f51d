"""Every command in the README and the guides does what they say: each is executed as it is typed there.

Here, in a folder that has what the documents name, with short trainings (tests/docs/conftest.py); or, where a command
needs minutes or servers, by the demo or by another test, which `ELSEWHERE` names. A new command has to be one of both.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rushes.cli import main, parse

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/guide.md", "docs/kubeflow.md", "docs/serving.md")
DEMO = "make demo"
RUN = "tests/integration/test_run.py::"
ANSWERS = f"{RUN}test_the_endpoint_answers_as_the_same_graph_does_here"
ELSEWHERE = {
    "make demo": DEMO,
    "make down": DEMO,
    "rushes predict clip.mp4": ANSWERS,
    "rushes predict clip.mp4 --offline": ANSWERS,
    "rushes predict clip.mp4 --json --protocol http": ANSWERS,
    "rushes compare vcop-r3d pace-r2plus1d slow=pace-r2plus1d:pretrain.epochs=60 --size cpu --videos my_videos "
    "--folds 3 --seeds 2 --labels-per-class 1,2,5,10 --budget 2e14 --parallel 2": (
        "tests/commands/test_compare.py::test_every_segment_is_tested_once_and_every_row_has_its_figures"
    ),
    "rushes pipeline run pace-r2plus1d --size cpu --videos my_videos --runner docker": (
        "tests/orchestration/test_docker.py::"
        "test_the_command_ends_with_2_before_anything_starts_where_there_is_no_engine"
    ),
}
"""The command to what executes it."""
FINDS = {"rushes doctor --profile mine.yaml", "rushes pretext control vcop-r3d pace-r2plus1d --videos my_videos"}
"""Commands that end with 1 where they find something, which depends on the machine, or on chance."""


def commands(page: str) -> list[str]:
    """The commands in a page's `sh` blocks, each on one line, without comments."""
    text = (ROOT / page).read_text()
    blocks = "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.split("#")[0].strip()]


def reading_order() -> list[str]:
    """All commands; what an earlier page has already is left out."""
    found: list[str] = []
    for page in PAGES:
        before = set(found)
        found += [command for command in commands(page) if command not in before]
    return found


ALL = reading_order()


PYTHON = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), flags=re.DOTALL | re.MULTILINE)


def test_commands_are_found() -> None:
    assert len(ALL) > 30
    assert set(ELSEWHERE) | FINDS <= set(ALL), "the tables have no command that the documents have not"


def test_what_executes_the_others_exists() -> None:
    for command, where in ELSEWHERE.items():
        if where != DEMO:
            file, _, name = where.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text(), command


def test_the_demo_is_the_makefiles() -> None:
    targets = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = {command.split()[1] for command in ALL if command.startswith("make ")}
    assert named <= {target for line in targets for target in line.split()}


@pytest.mark.parametrize("command", ALL)
def test_each_command_is_executed(command: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    if command in ELSEWHERE:
        assert words[0] == "make" or parse(words[1:])
        return
    assert words[0] == "rushes", "only these are executed here"
    assert main(words[1:]) in ({0, 1} if command in FINDS else {0}), capfd.readouterr().err


@pytest.mark.parametrize("block", PYTHON)
def test_each_block_of_python_is_executed(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the commands, since it loads what they made."""
    monkeypatch.delenv("RUSHES_PROGRESS", raising=False)  # of a command that has ended
    found: dict[str, Any] = {}
    exec(block, found)
    if "classifier" in found:
        assert found["whole"].shape == found["each"].shape[1:]
    else:
        assert found["clips"].shape == (1, 3, 8, 48, 48) and found["label"] in (0, 1)
