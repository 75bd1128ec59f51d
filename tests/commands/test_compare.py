"""`rushes compare` from the command line: real videos, real processes, every file it leaves; and its mistakes."""

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from rushes.cli import main
from rushes.comparing.chain_process import run_chain
from rushes.comparing.chains import Chain, Chains
from rushes.comparing.initialisations import initialisations_of
from rushes.comparing.members import common_sample, parse_member
from rushes.errors import UserError
from rushes.progress import read_events
from rushes.steps.finetune import finetune
from rushes.store import Manifest
from rushes.training.weights import load_classifier
from tests.commands.conftest import FILES, QUICK, Compared


@pytest.fixture
def at_home(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps find the comparison's store."""
    monkeypatch.setenv("RUSHES_STORE", compared.store.url)


RANDOM, MEMBER = "fold1-seed0-random-tiny-r3d", "fold1-seed0-vcop"


def test_every_segment_is_tested_once_and_every_row_has_its_figures(compared: Compared) -> None:
    result = compared.result
    assert result["test"] == {
        "groups": 2 * FILES,
        "folds": 2,
        "seeds": 1,
        "classes": 2,
        "chance": 0.5,
        "segments": 2 * FILES,
    }
    assert [row["name"] for row in result["rows"]] == ["random tiny_r3d", "vcop", "metadata only"]
    for row in result["rows"]:
        assert len(row["top1"]) == (5 if row["network"] else 2)
        assert all(interval["groups"] == 2 * FILES for interval in row["top1"].values())
    random, member, _ = result["rows"]
    assert (random["gflops"], random["frames"], random["pretext"]) == (0, 0, None)
    assert member["frames"] == 32 * 3 * 8
    assert member["gflops"] > 1
    assert {path.name for path in compared.out.iterdir()} == {"work"} | {
        f"comparison.{kind}" for kind in ("csv", "html", "json", "md")
    }


def test_a_fold_pretrains_without_its_test_groups_and_costs_no_encoding(compared: Compared) -> None:
    tested = []
    for fold in (1, 2):
        footage = compared.footage(fold)
        groups = footage.texts("group")
        test = set(groups[footage.select("test")])
        assert not test & set(groups[footage.select("unlabelled", "train", "val")])
        tested.append(test)
        pointer = Manifest.read(compared.out / "work" / f"footage-{fold}.json")
        assert compared.manifest(f"fold{fold}-seed0-vcop", "backbone").inputs["footage"] == pointer.ref
    assert len(tested[0] | tested[1]) == 2 * FILES
    shards = [
        pq.read_table(compared.store.path(Manifest.read(compared.out / "work" / f"footage-{n}.json").files[name]))
        for n in (1, 2)
        for name in ("shards.parquet",)
    ]
    assert shards[0]["sha256"].to_pylist() == shards[1]["sha256"].to_pylist()


@pytest.mark.usefixtures("at_home")
def test_the_random_row_is_fine_tuning_without_the_pretrained_weights(compared: Compared, tmp_path: Path) -> None:
    work = compared.out / "work"
    recipe = parse_member(f"vcop-r3d:{QUICK}", size="cpu").recipe
    backbone = compared.chain(MEMBER) / "backbone.json"
    footage, out = work / "footage-1.json", tmp_path / "baseline.json"
    baseline = finetune(recipe=recipe, footage=footage, backbone=backbone, init="random", out=out)
    same, _ = load_classifier(compared.manifest(RANDOM, "classifier-0"), compared.store)
    found, _ = load_classifier(baseline, compared.store)
    pretrained, _ = load_classifier(compared.manifest(MEMBER, "classifier-0"), compared.store)

    def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        return max(float((mine - theirs).detach().abs().max()) for mine, theirs in pairs)

    # Not 0: another number of threads adds up in another order.
    assert apart(found, same) < 1e-4
    assert apart(found, pretrained) > 1e-3


def test_few_labels_are_few(compared: Compared) -> None:
    few, everything = (compared.manifest(MEMBER, f"classifier-{n}").summary for n in (2, 0))
    assert few["labels"] == 4 < everything["labels"]
    assert few["clips"] == everything["clips"] == everything["labels"]
    assert "val_loss" not in few


@pytest.mark.usefixtures("at_home")
def test_nothing_is_done_twice(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_PROGRESS", str(tmp_path / "events.jsonl"))
    before = compared.manifest(MEMBER, "answers").ref
    run_chain(compared.chain(MEMBER))
    ended = [event for event in read_events(tmp_path / "events.jsonl")[0] if event["event"] == "end"]
    assert [(event["step"], event["cached"]) for event in ended] == [
        ("pretrain", True),
        ("finetune", True),
        ("finetune", True),
        ("measure", True),
    ]
    assert compared.manifest(MEMBER, "answers").ref == before


def chain(overrides: str = "") -> Chain:
    member = parse_member(f"vcop=vcop-r3d:{QUICK}{overrides}", size="cpu")
    (_, initialisation) = initialisations_of([member], common_sample([member]))
    return Chain(initialisation=initialisation, fold=1, seed=0, labels=(0,))


def test_a_chain_that_fails_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"vcop, fold 1, seed 0: pretrain: .*footage-1\.json: cannot read the manifest"),
        Chains([chain()], work=tmp_path, parallel=1) as running,
    ):
        list(running.follow())


@pytest.mark.usefixtures("at_home")
def test_leaving_ends_what_runs(compared: Compared, tmp_path: Path) -> None:
    shutil.copyfile(compared.out / "work" / "footage-1.json", tmp_path / "footage-1.json")
    endless = chain(",pretrain.epochs=100000,pretrain.workers=1")
    with Chains([endless], work=tmp_path, parallel=1) as running:
        for event in running.follow():
            if event is not None and event["event"] == "bar" and event["done"] > 1:
                break
        (process,) = [one.process for one in running._running]
        os.killpg(process.pid, 0)  # it is there
    assert process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "models: missing"),
        (["vcop"], "model: 'vcop' is not known"),
        (["vcop-r3d:pretrain.epoch=5"], "unknown key 'epoch'; did you mean 'epochs'"),
        (["vcop-r3d", "vcop-r3d"], "member: 'vcop-r3d' is there twice"),
        (["vcop-r3d:sample.fps=10", "pace-r2plus1d"], "sample.fps:"),
        (["vcop-r3d", "--folds", "0"], "folds: 0 is not allowed"),
        (["vcop-r3d", "--folds", "17"], "folds: 17 is not allowed; the labels have 16 groups"),
        (["vcop-r3d", "--seeds", "0"], "seeds: 0 is not allowed"),
        (["vcop-r3d", "--parallel", "0"], "parallel: 0 is not allowed"),
        (["vcop-r3d", "--labels-per-class", "some"], "labels_per_class: 'some' is not allowed"),
        (["vcop-r3d", "--budget", "10"], "budget: 10 FLOPs are less than a step"),
        (["vcop-r3d", "--size", "huge"], "size: 'huge'"),
        (["vcop-r3d:pretrain.options.gap=-1"], "gap"),
        (["shuffle-and-learn", "vcop-r3d:pretrain.clip_frames=1"], "pretrain.clip_frames: 1 is not allowed"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    videos: Path,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    size = [] if "--size" in arguments else ["--size", "cpu"]
    assert main(["compare", *arguments, *size, "--videos", str(videos), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert not list((tmp_path / "home").glob("store/steps/sample/*")), "found before anything is encoded"


def test_videos_without_labels_cannot_be_compared_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "one.mp4").write_bytes(next((videos / "low").iterdir()).read_bytes())
    assert main(["compare", "vcop-r3d", "--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "out")]) == 2
    assert "labels: none found: give --labels" in capsys.readouterr().err
