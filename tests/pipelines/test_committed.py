"""The generated files depend on what they describe, not on the code: changes in src leave them as they are."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from rushes.kubeflow.profile import DEFAULT, read_profile

ROOT = Path(__file__).parents[2]
MAKERS = ("pipelines.pipeline", "pipelines.dvc", "pipelines.readmes")
CONSTANT = re.compile(r"^(_?[A-Z][A-Z_]+(?:: Final)? = )(\d+(?:\.\d+)?)\b", re.MULTILINE)


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    ran = subprocess.run(["git", *names, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def copied(folder: Path) -> Path:
    """The files under version control, as they are now."""
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder: Path, *flags: str) -> None:
    """Writes or checks the generated files, as `make compile` and `make check` do, but in one process."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    mains = ", ".join(f"{maker}.main()" for maker in MAKERS)
    code = f"import {', '.join(MAKERS)}\nraise SystemExit(max({mains}))"
    command = [sys.executable, "-c", code, *flags]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def change_constant(file: Path) -> bool:
    """Gives the first numeric constant of a module another value; False where it has none."""
    before = file.read_text()
    file.write_text(CONSTANT.sub(lambda match: f"{match[1]}{match[2]}1", before, count=1))
    return file.read_text() != before


def test_a_constant_changed_anywhere_in_src_changes_no_generated_file(tmp_path: Path) -> None:
    checkout = copied(tmp_path)
    make(checkout, "--check")
    changed = [file for file in (checkout / "src" / "rushes").rglob("*.py") if change_constant(file)]
    assert len(changed) > 20
    make(checkout, "--check")


def test_two_branches_that_change_src_merge_without_a_conflict(tmp_path: Path) -> None:
    checkout = copied(tmp_path)
    git(checkout, "init", "--quiet", "--initial-branch=main")
    modules = [file for file in sorted((checkout / "src").rglob("*.py")) if CONSTANT.search(file.read_text())]
    for branch, module in (("main", None), ("one", modules[0]), ("other", modules[-1])):
        if module:
            git(checkout, "checkout", "--quiet", "-b", branch, "main")
            assert change_constant(module)
        make(checkout)
        git(checkout, "add", "--all")
        git(checkout, "commit", "--quiet", "--message", branch)
    git(checkout, "merge", "--quiet", "--no-edit", "one")
    changed = git(checkout, "diff", "--name-only", "main").splitlines()
    assert changed == [str(module.relative_to(checkout)) for module in (modules[0], modules[-1])]
    make(checkout, "--check")


def omitted(record: object, value: object, name: str) -> list[str]:
    """Fields that a record leaves to their defaults."""
    if isinstance(value, tuple):
        assert isinstance(record, list)
        pairs = zip(record, value, strict=True)
        return [one for number, (entry, own) in enumerate(pairs) for one in omitted(entry, own, f"{name}{number}.")]
    if not dataclasses.is_dataclass(value):
        return []
    assert isinstance(record, dict)
    names = {field.name for field in dataclasses.fields(value)}
    inside = [one for key in names & record.keys() for one in omitted(record[key], getattr(value, key), f"{key}.")]
    return [f"{name}{key}" for key in sorted(names - record.keys())] + inside


def test_the_default_profile_leaves_nothing_to_defaults_which_would_be_compiled() -> None:
    record = yaml.safe_load((ROOT / "pipelines" / "profiles" / f"{DEFAULT}.yaml").read_text())
    assert omitted(record, read_profile(DEFAULT), "") == ["experiment", "host", "name"]
