"""`rushes schedules check`: new data behind the same reference is one run, whoever looks, dies or looks at once."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rushes.cli import main
from rushes.footage.reference import DataReference
from rushes.kubeflow import checks
from rushes.kubeflow.compiled import Pipeline
from rushes.orchestration.local import compiled_pipeline
from rushes.steps.pin import pin
from tests.kubeflow.server import Kubeflow, Record, serving


@pytest.fixture
def server() -> Iterator[Kubeflow]:
    with serving() as state:
        yield state


class Checks:
    """A server with schedules that were applied, and what checks it."""

    def __init__(self, server: Kubeflow, folder: Path) -> None:
        self.server, self.file = server, folder / "schedules.yaml"
        self.environment = os.environ | {"RUSHES_HOME": str(folder / "home")}

    def schedule(self, *schedules: tuple[str, Path, str], **changes: Any) -> None:
        """Applies schedules of these names, on these folders at these revisions."""
        entries = [
            {
                "name": name,
                "cron": "0 0 2 * * *",
                "pipeline": Pipeline.read(compiled_pipeline()).digest,
                "data": {"videos": str(videos), "revision": revision},
                "parameters": {"endpoint": "e", "models": ["pace-r2plus1d"]},
                **changes,
            }
            for name, videos, revision in schedules
        ]
        self.file.write_text(yaml.safe_dump({"experiment": "rushes", "schedules": entries}))
        assert main(["schedules", "apply", *self._arguments()]) == 0

    def __call__(self, *, status: int = 0) -> list[Record]:
        """Checks in this process; returns the runs that came of it."""
        before = set(self.server.runs)
        assert main(["schedules", "check", *self._arguments()]) == status
        return [run for key, run in self.server.runs.items() if key not in before]

    def start(self) -> subprocess.Popen[str]:
        """Checks in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "rushes.cli", "schedules", "check", *self._arguments()],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _arguments(self) -> list[str]:
        return [str(self.file), "--host", self.server.url]


@pytest.fixture
def check(server: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checks:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    return Checks(server, tmp_path)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of videos; pinning reads their bytes and nothing else."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"a film")
    return folder


# A DVC repository ----------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    environment = os.environ | {
        f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environment)


def commit_videos(folder: Path) -> None:
    """What people do when there is new footage: dvc add, git commit, dvc push."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repository:
        repository.add(str(folder / "videos"))
        repository.push()
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "footage")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A git repository whose folder `videos` DVC tracks, with a remote."""
    from dvc.repo import Repo

    folder = tmp_path / "archive"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "a.mp4").write_bytes(b"a film")
    git(folder, "init", "-q", "-b", "main")
    Repo.init(str(folder)).close()
    (folder / ".dvc" / "config").write_text(
        f"[core]\n    remote = here\n['remote \"here\"']\n    url = {tmp_path}/remote\n"
    )
    commit_videos(folder)
    return folder


def test_a_new_revision_behind_the_same_reference_is_one_run(
    check: Checks, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check.schedule(("nightly", archive / "videos", "main"))
    (first,) = check()
    assert first["runtime_config"]["parameters"]["revision"] == "main", "the run pins the reference itself"
    assert first["pipeline_version_reference"] == check.server.named("nightly")["pipeline_version_reference"]
    assert check() == []
    # Footage that nobody committed, and a commit without footage, are no new data of the branch.
    (archive / "videos" / "b.mp4").write_bytes(b"another film")
    (archive / "notes.txt").write_text("notes")
    git(archive, "add", "notes.txt")
    git(archive, "commit", "-qm", "notes")
    assert check() == []
    commit_videos(archive)
    (second,) = check()
    assert second["display_name"] != first["display_name"]
    assert second["runtime_config"] == first["runtime_config"]
    assert (check(), check()) == ([], [])
    assert "nightly unchanged pin/" in " ".join(capsys.readouterr().out.split())


def test_two_checks_at_once_submit_one_run(check: Checks, archive: Path) -> None:
    check.schedule(("nightly", archive / "videos", "main"))
    check()
    (archive / "videos" / "b.mp4").write_bytes(b"another film")
    commit_videos(archive)
    # Both have seen what was submitted last, and have pinned the new data, before either goes on.
    check.server.gate = ("GET /healthz", threading.Barrier(2))
    processes = [check.start(), check.start()]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len(check.server.runs) == 2, "the first one, and one of the two"
    outcomes = sorted(re.findall(r"nightly +(\w+)", out)[0] for out, _ in said)
    assert outcomes == ["submitted", "waiting"]
    check.server.gate = None
    assert check() == []


def test_of_two_that_fetch_a_revision_at_once_both_have_it(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.api import DVCFileSystem

    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    fetch = DVCFileSystem.get

    def fetch_second(self: Any, source: str, part: str, **options: Any) -> None:
        fetch(self, source, part, **options)
        shutil.copytree(part, Path(part).parents[1] / "videos")  # the other one is just ready

    monkeypatch.setattr(DVCFileSystem, "get", fetch_second)
    manifest = pin(data=DataReference(videos=str(archive / "videos"), revision="main"), out=tmp_path / "pin.json")
    assert manifest.summary["videos"] == 1
    (revision,) = (tmp_path / "home" / "cache" / "revisions").iterdir()
    assert [path.name for path in revision.iterdir()] == ["videos"]


def test_a_home_that_lasts_fetches_a_revision_once(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.api import DVCFileSystem

    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store"))
    fetch, fetched = DVCFileSystem.get, list[str]()

    def counted(self: Any, source: str, *arguments: Any, **options: Any) -> None:
        fetched.append(source)
        fetch(self, source, *arguments, **options)

    monkeypatch.setattr(DVCFileSystem, "get", counted)
    for home, number in (("one", 1), ("one", 1), ("another", 2)):
        monkeypatch.setenv("RUSHES_HOME", str(tmp_path / home))
        pin(data=DataReference(videos=str(archive / "videos"), revision="main"), out=tmp_path / "pin.json")
        assert fetched == ["videos"] * number


# Folders -------------------------------------------------------------------------------------------------------------


def test_a_check_in_a_new_home_reads_no_file_again(
    check: Checks, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store"))
    check.schedule(("nightly", videos, ""))
    assert len(check()) == 1
    # Read again, these bytes would be new data.
    time = (videos / "a.mp4").stat().st_mtime_ns
    (videos / "a.mp4").write_bytes(b"a lamp")
    os.utime(videos / "a.mp4", ns=(time, time))
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "another pod's"))
    assert check() == []


def test_data_that_comes_back_is_new_again(check: Checks, videos: Path) -> None:
    check.schedule(("nightly", videos, ""))
    names = []
    for content in (b"a film", b"another", b"a film"):
        (videos / "a.mp4").write_bytes(content)
        (run,) = check()
        names.append(run["display_name"])
        assert check() == []
    assert [re.sub("-[0-9a-f]{16}$", "", name) for name in names] == [f"nightly-00000{n}" for n in (1, 2, 3)]
    assert names[0][-16:] == names[2][-16:] != names[1][-16:]


def test_where_nothing_changed_the_server_is_not_asked(check: Checks, videos: Path) -> None:
    check.schedule(("nightly", videos, ""))
    check()
    before = list(check.server.calls)
    assert check() == []
    assert check.server.calls == before


def test_a_disabled_schedule_is_left_alone(check: Checks, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check.schedule(("nightly", videos, ""), enabled=False)
    assert check() == []
    assert "No schedule is enabled." in capsys.readouterr().out


def test_a_run_that_people_delete_is_not_started_again(check: Checks, videos: Path) -> None:
    check.schedule(("nightly", videos, ""))
    check()
    check.server.runs.clear()
    assert check() == []


def test_what_was_not_applied_is_told_and_claimed_by_nobody(
    check: Checks, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check.schedule(("nightly", videos, ""))
    versions = dict(check.server.versions)
    check.server.versions.clear()
    assert check(status=2) == []
    assert "is not on the server: run `rushes schedules apply`" in capsys.readouterr().out
    check.server.versions |= versions
    assert len(check()) == 1


def test_one_that_fails_does_not_keep_the_others_from_it(
    check: Checks, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check.schedule(("away", tmp_path / "away", ""), ("nightly", videos, ""))
    (run,) = check(status=2)
    assert run["display_name"].startswith("nightly-")
    captured = capsys.readouterr()
    assert "away" in captured.out and "1 of 2 schedules could not be checked" in captured.err


def test_a_submission_whose_answer_was_lost_is_found_on_the_server(
    check: Checks, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check.schedule(("nightly", videos, ""))
    check.server.faults["POST /runs"] = 0
    assert len(check(status=1)) == 1
    monkeypatch.setattr(checks, "PATIENCE", 0.0)
    assert check() == []
    before = list(check.server.calls)
    assert check() == [] and check.server.calls == before, "it is written down now"


def test_a_submission_that_never_arrived_is_made_once_patience_ends(
    check: Checks, videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check.schedule(("nightly", videos, ""))
    check.server.faults["POST /runs"] = 503
    assert check(status=1) == []
    assert check() == []
    assert re.search(r"nightly +waiting .* or crashed: it has \d+ s left", capsys.readouterr().out)
    monkeypatch.setattr(checks, "PATIENCE", 0.0)
    (run,) = check()
    assert run["display_name"].startswith("nightly-000002-")
    assert check() == []
