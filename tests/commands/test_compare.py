"""`rushes compare` from the command line and as a compiled pipeline: real videos, real processes; and its mistakes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from rushes.cli import main
from rushes.comparing.chain_process import run_chain
from rushes.comparing.chains import Chain, Chains
from rushes.comparing.comparison_plan import ComparisonPlan
from rushes.comparing.initialisations import initialisations_of
from rushes.comparing.members import common_sample, named_recipes, parse_member
from rushes.comparing.tasks import write_answers
from rushes.errors import UserError
from rushes.orchestration.local import compiled_comparison
from rushes.progress import read_events
from rushes.steps.finetune import finetune
from rushes.store import Manifest, Store
from rushes.strict import to_record
from rushes.training.weights import load_classifier
from tests.commands.conftest import FILES, MEMBER, OTHER, QUICK, TABLES, Compared, compare


@pytest.fixture
def at_home(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps find the comparison's store."""
    monkeypatch.setenv("RUSHES_STORE", compared.store.url)


RANDOM_CHAIN, PRETRAINED_CHAIN = "fold1-seed0-random-tiny-r3d", "fold1-seed0-vcop"


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
    backbone = compared.chain(PRETRAINED_CHAIN) / "backbone.json"
    footage, out = work / "footage-1.json", tmp_path / "baseline.json"
    baseline = finetune(recipe=recipe, footage=footage, backbone=backbone, init="random", out=out)
    same, _ = load_classifier(compared.manifest(RANDOM_CHAIN, "classifier-0"), compared.store)
    found, _ = load_classifier(baseline, compared.store)
    pretrained, _ = load_classifier(compared.manifest(PRETRAINED_CHAIN, "classifier-0"), compared.store)

    def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        return max(float((mine - theirs).detach().abs().max()) for mine, theirs in pairs)

    # Not 0: another number of threads adds up in another order.
    assert apart(found, same) < 1e-4
    assert apart(found, pretrained) > 1e-3


def test_few_labels_are_few(compared: Compared) -> None:
    few, everything = (compared.manifest(PRETRAINED_CHAIN, f"classifier-{n}").summary for n in (2, 0))
    assert few["labels"] == 4 < everything["labels"]
    assert few["clips"] == everything["clips"] == everything["labels"]
    assert "val_loss" not in few


def check_all_found(events: Path) -> None:
    """Every step of a chain found its output in the store."""
    ended = [event for event in read_events(events)[0] if event["event"] == "end"]
    steps = ("pretrain", "finetune", "finetune", "measure")
    assert [(event["step"], event["cached"]) for event in ended] == [(step, True) for step in steps]


@pytest.mark.usefixtures("at_home")
def test_nothing_is_done_twice(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_PROGRESS", str(tmp_path / "events.jsonl"))
    before = compared.manifest(PRETRAINED_CHAIN, "answers").ref
    run_chain(compared.chain(PRETRAINED_CHAIN))
    check_all_found(tmp_path / "events.jsonl")
    assert compared.manifest(PRETRAINED_CHAIN, "answers").ref == before


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


# The same, compiled --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Piped:
    """The compiled comparison, run by kfp.local with a store of its own."""

    folder: Path
    store: Store

    def artifacts(self, task: str, name: str) -> list[Path]:
        """Of each time that the task ran."""
        return sorted(self.folder.glob(f"outputs/*/**/{task}/{name}"))

    @property
    def result(self) -> dict[str, Any]:
        content = self.store.read("comparisons/piped/comparison.json")
        assert content is not None
        found: dict[str, Any] = json.loads(content)
        return found


@pytest.fixture(scope="module")
def piped(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Piped:
    return pipe(MEMBER, videos=videos, folder=tmp_path_factory.mktemp("piped"))


def pipe(*members: str, videos: Path, folder: Path) -> Piped:
    """The same comparison as `tests.commands.conftest.compare`, and as many threads a chain."""
    recipes = named_recipes([parse_member(text, size="cpu") for text in members])
    arguments = {
        "videos": str(videos),
        "models": [to_record(recipe) for recipe in recipes],
        "name": "piped",
        "folds": 2,
        "labels_per_class": "2",
        "partitions": 2,
    }
    (folder / "arguments.json").write_text(json.dumps(arguments))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUSHES")}
    environment |= {
        "RUSHES_HOME": str(folder / "home"),
        "RUSHES_RUN": "piped",
        "OMP_NUM_THREADS": str(max(len(os.sched_getaffinity(0)) // 2, 1)),
    }
    command = ["rushes.orchestration.local", str(folder), "--pipeline", str(compiled_comparison())]
    done = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return Piped(folder=folder, store=Store(str(folder / "home" / "store")))


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """All that does not depend on how, and how fast, it was run."""
    rows = [{name: value for name, value in row.items() if name != "hours"} for row in result["rows"]]
    return {name: value for name, value in result.items() if name != "command"} | {"rows": rows}


def test_the_compiled_comparison_says_what_one_machine_says_to_the_digit(compared: Compared, piped: Piped) -> None:
    assert [row["name"] for row in piped.result["rows"]] == ["random tiny_r3d", "vcop", "metadata only"]
    assert figures(piped.result) == figures(compared.result)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_models_are_compared_alike_to_the_digit(videos: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    one, other = compare(MEMBER, OTHER, videos=videos, folder=here), pipe(MEMBER, OTHER, videos=videos, folder=there)
    assert [row["name"] for row in one.result["rows"]] == ["random tiny_r3d", "vcop", "longer", "metadata only"]
    assert figures(other.result) == figures(one.result)


def test_its_tables_are_in_the_store_and_its_artifacts_are_pointers(piped: Piped) -> None:
    assert piped.store.names("comparisons/piped") == TABLES
    for name, file in (("page", "comparison.html"), ("tables", "comparison.md")):
        (artifact,) = piped.artifacts("comparison", name)
        assert artifact.read_bytes() == piped.store.read(f"comparisons/piped/{file}")
    pointers = [*piped.artifacts("folds", "sampled"), *piped.artifacts("chain", "answers")]
    assert len(pointers) == 1 + 2 * 2
    assert max(path.stat().st_size for path in pointers) < 30_000


def test_only_the_first_fold_encodes_and_a_partition_at_a_time(piped: Piped) -> None:
    (planned,) = piped.artifacts("folds", "sampled")
    one, other = (Manifest.from_json(pointer) for pointer in ComparisonPlan.read(planned).footage)
    assert one.files["index.parquet"] != other.files["index.parquet"]
    assert one.files["shards.parquet"] == other.files["shards.parquet"]
    parts = [Manifest.read(path).summary["partition"] for path in piped.artifacts("sample", "footage")]
    assert sorted(parts) == ["1/2", "2/2"]


def test_the_summary_tells_each_step_and_speaks_of_nothing_that_is_served(piped: Piped) -> None:
    (page,) = piped.artifacts("summary", "page")
    text = page.read_text()
    assert text.startswith("# piped: succeeded") and "Champion" not in text
    assert text.count("| measure ") == 4 and text.count("| finetune ") == 8
    assert "| measure vcop, fold 2, seed 0 |" in text and "| comparison |" in text


def test_a_chain_that_is_tried_again_finds_what_it_did(
    piped: Piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_STORE", piped.store.url)
    monkeypatch.setenv("RUSHES_PROGRESS", str(tmp_path / "events.jsonl"))
    (planned,) = piped.artifacts("folds", "sampled")
    again = write_answers(plan=planned, chain="vcop, fold 2, seed 0", out=tmp_path / "answers.json")
    check_all_found(tmp_path / "events.jsonl")
    assert again.ref in [Manifest.read(path).ref for path in piped.artifacts("chain", "answers")]
