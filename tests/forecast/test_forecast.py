"""`rushes plan`: what a part of an archive tells about all of it, and what it says where it can tell nothing."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rushes.cli import main
from rushes.config import Recipe, SampleConfig
from rushes.footage.archive import list_archive
from rushes.footage.files import Listed
from rushes.footage.sample import Archive, sample_footage
from rushes.footage.sources import Source
from rushes.forecast.machine import PEAKS, Machine
from rushes.forecast.sampling import FILES, LEAST, ListedArchive, draw_files, sample_part
from rushes.kubeflow.profile import Gpu, Profile, Resources
from rushes.progress import NullProgress
from rushes.recipes import load_recipe
from rushes.store import Store
from rushes.video.encode import encode_h264

CONFIG = SampleConfig(short_side=32, segment_seconds=1.0, workers=2)


def write_archive(folder: Path, *, files: int, seed: int = 0) -> Path:
    """Many short and few long films, of three sizes; some move more than others."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(files):
        height, width = ((32, 48), (48, 64), (96, 128))[rng.choice(3, p=(0.6, 0.3, 0.1))]
        frames = int(np.clip(rng.lognormal(2.5, 0.9), 5, 200))
        noise = rng.normal(0, 25, (height, 2 * width)).cumsum(axis=1) / 3 + 128
        luma = [np.roll(noise, int(rng.integers(0, 4)) * t, axis=1)[:, :width] for t in range(frames)]
        grey = np.full((height // 2, width), 128.0)
        pictures = [np.vstack([y, grey]).clip(16, 235).astype(np.uint8) for y in luma]
        (folder / f"{number:04d}.mp4").write_bytes(
            encode_h264(pictures, fps=25.0, qp=int(rng.integers(18, 30)), gop=12)
        )
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "videos", files=150)


def recipe(seed: int = 0, **sample: Any) -> Recipe:
    known = load_recipe("pace-r2plus1d", size="cpu")
    pretrain = dataclasses.replace(known.pretrain, crop=32, short_side=0)
    return dataclasses.replace(known, seed=seed, sample=dataclasses.replace(CONFIG, **sample), pretrain=pretrain)


def planned(root: Path, scratch: Path, *, seed: int = 0, share: float = 0.1, files: int = FILES) -> Any:
    return sample_part(
        recipe(seed),
        ListedArchive(root=str(root), files=list_archive(str(root)).files),
        share=share,
        scratch=scratch / f"{seed}-{files}",
        progress=NullProgress(),
        files=files,
    )


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of it, sampled as the step does."""
    out = tmp_path_factory.mktemp("whole")
    sources = [
        Source(path=file.path, sha256=f"{number:064x}", size=file.size)
        for number, file in enumerate(list_archive(str(archive)).files, start=1)
    ]
    return sample_footage(
        archive=Archive(
            root=str(archive),
            sources=[dataclasses.replace(s, sha256=s.sha256[::-1]) for s in sources],
            pinned=False,
        ),
        config=CONFIG,
        store=Store(str(out / "store")),
        digest="d",
        out=out,
        progress=NullProgress(),
    )


def test_a_part_tells_bytes_and_frames_of_the_whole(archive: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    found = [planned(archive, tmp_path, seed=seed) for seed in range(4)]
    for name, truth in (("frames", whole["frames"]), ("size", whole["new_bytes"])):
        middles = np.array([getattr(one, name).middle for one in found])
        assert np.abs(middles / truth - 1).max() < 0.25, name
        assert np.abs(middles.mean() / truth - 1) < 0.12, name
        assert all(getattr(one, name).low < truth < getattr(one, name).high for one in found), name
    assert [one.segments for one in found] == [whole["segments"]] * 4
    assert all(one.drawn < 0.3 * whole["segments"] for one in found), "it was a part"
    assert len({one.frames for one in found}) > 1, "another seed, another part"
    assert all(one.core_seconds.middle > 0 for one in found)


def test_not_all_files_are_opened_where_there_are_many(
    archive: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [planned(archive, tmp_path, seed=seed, files=60) for seed in range(3)]
    assert all(len(one.files) <= 60 for one in found)
    middles = np.array([one.frames.middle for one in found])
    assert np.abs(middles.mean() / whole["frames"] - 1) < 0.2
    monkeypatch.setattr("rushes.forecast.sampling.error_of_files", lambda opened, files: 0.0)
    bold = planned(archive, tmp_path / "bold", seed=0, files=60)
    assert found[0].frames.middle == bold.frames.middle
    assert found[0].frames.high > 1.02 * bold.frames.high, "the range knows of the files that were not opened"


def test_files_stand_for_those_that_were_not_drawn() -> None:
    sizes = np.random.default_rng(1).lognormal(8, 1.5, 3000).astype(int)
    listed = [Listed(path=f"{n}.mp4", size=int(size), stamp="") for n, size in enumerate(sizes)]
    counts, bytes_ = [], []
    for seed in range(60):
        chosen = draw_files(listed, count=200, seed=seed)
        assert len(chosen) <= 200
        counts.append(sum(chosen.values()))
        bytes_.append(sum(weight * listed[int(path[:-4])].size for path, weight in chosen.items()))
    assert np.mean(counts) == pytest.approx(3000, rel=0.1)
    assert np.mean(bytes_) == pytest.approx(sizes.sum(), rel=0.01)
    assert draw_files(listed[:200], count=200, seed=0) == {file.path: 1.0 for file in listed[:200]}


# The command ---------------------------------------------------------------------------------------------------------

FLAGS = (
    "--sample.short_side",
    "32",
    "--sample.segment_seconds",
    "4",
    "--sample.workers",
    "2",
    "--pretrain.crop",
    "32",
    "--pretrain.batch",
    "4",
    "--pretrain.epochs",
    "3",
    "--pretrain.clip_frames",
    "4",
)


def plan(videos: Path, *flags: str) -> int:
    return main(["plan", "pace-r2plus1d", "--size", "cpu", "--videos", str(videos), *FLAGS, *flags])


def test_one_row_per_step_and_the_next_command(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan(archive) == 0
    shown = capsys.readouterr().out
    rows = [line.split()[0] for line in shown.splitlines() if line.strip()]
    assert {"pin", "sample", "pretrain"} <= set(rows)
    assert "no labels" in shown and f"Next: rushes run pace-r2plus1d --size cpu --videos {archive}" in shown
    assert list(tmp_path.iterdir()) == [], "nothing is kept"


@pytest.mark.parametrize(
    ("profile", "following"),
    [
        ("gpu", "rushes pipeline submit pace-r2plus1d --size cpu --videos"),
        ("cpu", "rushes pipeline compile --profile cpu --out cpu-pipeline.yaml"),
    ],
)
def test_of_a_cluster_the_next_command_is_its_own(
    archive: Path, capsys: pytest.CaptureFixture[str], profile: str, following: str
) -> None:
    assert plan(archive, "--profile", profile) == 0
    assert f"Next: {following}" in capsys.readouterr().out


def test_labels_bring_fine_tuning_and_evaluation(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    names = list_archive(str(archive)).paths
    labels.write_text("path,label\n" + "".join(f"{name},{'ab'[n % 2]}\n" for n, name in enumerate(names)))
    assert plan(archive, "--labels", str(labels), "--json") == 0
    record = json.loads(capsys.readouterr().out)
    rows = {row["step"]: row for row in record["rows"]}
    assert list(rows) == ["pin", "sample", "pretrain", "finetune", "evaluate"]
    for name in ("sample", "pretrain", "finetune", "evaluate"):
        hours, minutes = rows[name]["core_hours"], rows[name]["minutes"]
        assert 0 < hours["low"] <= hours["middle"] <= hours["high"]
        assert minutes["low"] == pytest.approx(60 * hours["low"] / (os.cpu_count() or 1))
    known, epochs = record["footage"]["labelled"], load_recipe("pace-r2plus1d", size="cpu").finetune.epochs
    assert known["train"] > known["test"] > 0
    # A clip costs the same wherever it is trained on, and a third of that where it is only looked at.
    clips = {
        "pretrain": 3 * record["footage"]["windows"]["middle"],
        "finetune": 2 * epochs * known["train"],
        "evaluate": 10 * (2 * known["train"] + 4 * known["test"]) / 3,
    }
    each = [rows[name]["core_hours"]["middle"] / count for name, count in clips.items()]
    assert each == pytest.approx([each[0]] * 3)


def test_a_gpu_that_is_not_here_is_not_measured_and_that_is_said(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(archive, "--profile", "gpu", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    (pretrain,) = (row for row in record["rows"] if row["step"] == "pretrain")
    hours = pretrain["gpu_hours"]
    assert 0 < hours["low"] < hours["high"]
    assert pretrain["minutes"]["high"] == pytest.approx(60 * hours["high"])
    assert "was not measured" in record["notes"][0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--share", "0"), "share: 0.0"),
        (("--share", "1.5"), "share: 1.5"),
        (("--profile", "nowhere"), "profile: 'nowhere'"),
        (("--labels", "/nowhere.csv"), "/nowhere.csv"),
    ],
)
def test_a_mistake_is_one_line(
    archive: Path, flags: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(archive, *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_an_archive_that_cannot_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.mp4").write_bytes(b"no video" * 100)
    for place, words in (
        (str(empty), "no video file"),
        (str(broken), "not_a_video (1)"),
        (str(tmp_path / "no"), "no"),
        ("nosuch://bucket", "nosuch://bucket"),
    ):
        assert main(["plan", "pace-r2plus1d", "--size", "cpu", "--videos", place]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("rushes: videos") and words in line, line


# The machine ---------------------------------------------------------------------------------------------------------


def test_the_profile_says_how_many_cores_and_gpus() -> None:
    profile = Profile(
        name="p",
        partitions=3,
        cpu=Resources(cpu="3500m"),
        train=Resources(cpu="16"),
        gpu=Gpu(count=2, node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}),
    )
    machine = Machine.of(profile)
    assert (machine.sampling, machine.training, machine.gpus, machine.gpu) == (10.5, 16.0, 2, "H100")
    assert Machine.of(Profile(gpu=Gpu(count=1))).gpu in PEAKS
    assert Machine.of(Profile(gpu=Gpu(count=0))).here, "a CPU is everywhere"
    assert Machine.of(None).sampling == os.cpu_count()


def test_enough_is_drawn_to_tell_a_range_and_no_more_than_minutes(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = planned(archive, tmp_path / "little", share=1e-6)
    assert LEAST / 2 <= found.drawn <= LEAST
    monkeypatch.setattr("rushes.forecast.sampling.MOST", 1e-6)
    assert planned(archive, tmp_path / "much", share=1.0).drawn == found.drawn
