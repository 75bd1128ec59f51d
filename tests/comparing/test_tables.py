"""From answers to the table: pooling, pairing, labels saved; the texts and files that people read."""

import csv
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rushes.comparing.report import figure_text, notes_of, saved_text, tables_of, to_markdown, write_comparison
from rushes.comparing.tables import Measurement, Pooled, TableRow, compare, labels_saved, pool, protocols_of
from tests.evaluation.simulated import levels

NUMBERS = (2, 5)
ROWS = [
    TableRow(name="random", init="random", network="net", baseline="random"),
    TableRow(name="good", init="pretext", network="net", baseline="random"),
    TableRow(name="same", init="pretext", network="net", baseline="random"),
    TableRow(name="metadata only", init="", network=""),
]
ACCURACY = {
    "random": {"nearest neighbour, all": 0.3, "2": 0.3, "5": 0.4, "all": 0.6},
    "good": {"nearest neighbour, all": 0.6, "2": 0.5, "5": 0.7, "all": 0.8},
    "same": {"nearest neighbour, all": 0.3, "2": 0.3, "5": 0.4, "all": 0.6},
    "metadata only": {"2": 0.25, "5": 0.25, "all": 0.25},
}


def answers(name: str, *, fold: int, seed: int, groups: int, clips: int) -> dict[str, list[str]]:
    """Answers of four classes that are right as often as ACCURACY says, independently."""
    rng = np.random.default_rng([fold, seed, len(name), ord(name[0])])
    truth = np.arange(groups * clips) % 4
    columns = {
        "key": [f"{fold}-{n}" for n in range(len(truth))],
        "group": [f"g{fold}-{n // clips}" for n in range(len(truth))],
        "label": [f"class {c}" for c in truth],
    }
    for protocol in protocols_of(NUMBERS):
        level = ACCURACY[name].get(protocol, ACCURACY[name].get(protocol.split(", ")[1]))
        if name == "metadata only" and not protocol.startswith("linear"):
            continue
        assert level is not None
        predicted = np.where(rng.random(len(truth)) < level, truth, (truth + 1) % 4)
        columns[protocol] = [f"class {c}" for c in predicted]
    return columns


def chains(*, groups: int = 12, clips: int = 8, seeds: int = 2) -> list[Measurement]:
    return [
        Measurement(
            row=row.name,
            fold=fold,
            seed=seed,
            answers=answers(row.name, fold=fold, seed=seed, groups=groups, clips=clips),
            labels_per_class=20.0,
            gflops=10.0 if row.init == "pretext" else 0.0,
            frames=100,
            hours=0.5,
            pretext=(0.5, 0.25) if row.init == "pretext" else None,
        )
        for row in ROWS
        for fold in (1, 2)
        for seed in range(seeds)
    ]


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return compare(ROWS, chains(), numbers=NUMBERS, resamples=500) | {"not run": ["net"]}


def test_folds_and_seeds_are_pooled(result: dict[str, Any]) -> None:
    assert result["test"] == {"groups": 24, "folds": 2, "seeds": 2, "classes": 4, "chance": 0.25, "segments": 192}
    good = next(row for row in result["rows"] if row["name"] == "good")
    pooled = pool([m for m in chains() if m.row == "good"])
    assert len(pooled.groups) == 2 * 192
    for name, interval in good["top1"].items():
        assert interval["value"] == pytest.approx(pooled.right[name].mean())
        assert interval["low"] < interval["value"] < interval["high"]
        assert interval["groups"] == 24
    assert good["top1"]["fine-tune, all"]["value"] == pytest.approx(0.8, abs=0.06)
    assert (good["hours"], good["gflops"], good["pretext"]) == (2.0, 10.0, {"accuracy": 0.5, "chance": 0.25})


def test_the_order_of_chains_changes_nothing(result: dict[str, Any]) -> None:
    measured = chains()
    # Shuffled, so that seeds of one row come in another order than another's.
    shuffled = [measured[n] for n in np.random.default_rng(0).permutation(len(measured))]
    again = compare(ROWS, shuffled, numbers=NUMBERS, resamples=500)
    assert json.dumps(again) == json.dumps({k: v for k, v in result.items() if k != "not run"})


def test_differences_are_paired_and_corrected(result: dict[str, Any]) -> None:
    found = {(r["member"], r["protocol"]): r for r in result["against random"]}
    assert set(found) == {(name, protocol) for name in ("good", "same") for protocol in protocols_of(NUMBERS)}
    assert all(record["p_holm"] >= record["p"] for record in found.values())
    assert found["good", "nearest neighbour, all"]["p_holm"] < 0.05 < found["same", "fine-tune, all"]["p"]
    (between,) = result["between members"]
    assert (between["member"], between["other"], between["protocol"]) == ("good", "same", "fine-tune, all")
    rows = {row["name"]: row["top1"]["fine-tune, all"]["value"] for row in result["rows"][:3]}
    assert between["difference"]["value"] == pytest.approx(rows["good"] - rows["same"])


def test_all_pretrained_together_are_the_mean_of_their_differences(result: dict[str, Any]) -> None:
    single = {(r["member"], r["protocol"]): r["difference"] for r in result["against random"]}
    assert [record["protocol"] for record in result["pretraining"]] == protocols_of(NUMBERS)
    for record in result["pretraining"]:
        each, together = [single[name, record["protocol"]] for name in ("good", "same")], record["difference"]
        assert record["members"] == 2
        assert together["value"] == pytest.approx(sum(one["value"] for one in each) / 2)
        assert together["low"] < together["value"] < together["high"]
        widest = max(one["high"] - one["low"] for one in each)
        assert together["high"] - together["low"] < widest


def test_one_pretrained_member_has_nothing_to_be_pooled_with() -> None:
    rows = [row for row in ROWS if row.name != "same"]
    measured = [m for m in chains() if m.row != "same"]
    assert compare(rows, measured, numbers=NUMBERS, resamples=100)["pretraining"] == []


def test_answers_about_other_segments_are_not_paired() -> None:
    measured = chains()
    strange = [m for m in measured if m.row != "same"] + [
        Measurement(row="same", fold=m.fold, seed=m.seed, answers={**m.answers, "key": [*m.answers["key"][1:], "x"]})
        for m in measured
        if m.row == "same"
    ]
    with pytest.raises(AssertionError, match="cannot be paired"):
        compare(ROWS, strange, numbers=NUMBERS, resamples=100)


def exact(levels: dict[str, float], *, groups: int = 20, most: float = 20.0) -> Pooled:
    """A row that is right in just these shares of the segments of every group."""
    right = {
        name: np.tile((np.arange(100) < round(100 * level)).astype(float), groups) for name, level in levels.items()
    }
    names = np.repeat([f"g{n}" for n in range(groups)], 100)
    measured = [Measurement(row="x", fold=1, seed=0, answers={}, labels_per_class=most)]
    return Pooled(right=right, groups=names, measured=measured)


RANDOM = exact({"fine-tune, 2": 0.3, "fine-tune, 5": 0.4, "fine-tune, all": 0.6})


@pytest.mark.parametrize(
    ("accuracy", "labels", "needed", "text"),
    [
        (0.5, 5, 12.5, "+7.5"),  # half way from 5 to all 20
        (0.35, 2, 3.5, "+1.5"),
        (0.7, 5, None, "> +15"),
        (0.2, 5, 2.0, "≤ -3.0"),
    ],
)
def test_labels_saved_by_hand(accuracy: float, labels: int, needed: float | None, text: str) -> None:
    own = exact({f"fine-tune, {labels}": accuracy})
    found = labels_saved(own, RANDOM, labels=labels, numbers=NUMBERS)
    assert found.needed == (None if needed is None else pytest.approx(needed))
    value, _, bounds = saved_text(vars(found), labels=labels, first=2).partition(" [")
    assert (value, bounds.count(",")) == (text, 1)
    assert (found.low or np.inf) <= (needed or np.inf) <= (found.high or np.inf)


def test_labels_saved_of_few_groups_have_no_bounds() -> None:
    own = exact({"fine-tune, 5": 0.5}, groups=4)
    random = exact({"fine-tune, 2": 0.3, "fine-tune, 5": 0.4, "fine-tune, all": 0.6}, groups=4)
    found = labels_saved(own, random, labels=5, numbers=NUMBERS)
    assert (found.low, found.high, found.known) == (None, None, False)
    assert saved_text(vars(found), labels=5, first=2) == "+7.5"


def test_more_labels_than_there_are_is_the_same_as_all() -> None:
    random = exact({"fine-tune, 2": 0.3, "fine-tune, 5": 0.6, "fine-tune, all": 0.6}, most=4.0)
    found = labels_saved(exact({"fine-tune, 2": 0.45}), random, labels=2, numbers=NUMBERS)
    assert found.needed == pytest.approx(3.0)


def covered(*, trials: int, groups: int, icc: float = 0.1) -> float:
    """How often the bounds of labels needed hold the truth, 9.5: random is right on .3, .4, .6 of (2, 5, 20) labels."""
    rng = np.random.default_rng(0)
    held = 0
    names = np.repeat([f"g{n}" for n in range(groups)], 10)

    def drawn(accuracies: dict[str, float]) -> Pooled:
        each = rng.random(groups)  # of a group, how hard it is; of a video, whether it is answered rightly
        right = {
            name: (rng.random(len(names)) < np.repeat(np.quantile(levels(share, icc), each), 10)).astype(float)
            for name, share in accuracies.items()
        }
        return Pooled(
            right=right,
            groups=names,
            measured=[Measurement(row="", fold=1, seed=0, answers={}, labels_per_class=20.0)],
        )

    for _ in range(trials):
        random = drawn({"fine-tune, 2": 0.3, "fine-tune, 5": 0.4, "fine-tune, all": 0.6})
        own = drawn({"fine-tune, 5": 0.46})
        found = labels_saved(own, random, labels=5, numbers=NUMBERS)
        low, high = (np.inf if bound is None else bound for bound in (found.low, found.high))
        held += low <= 9.5 <= high
    return held / trials


@pytest.mark.parametrize("groups", [12, 60])
def test_bounds_of_labels_needed_hold_the_truth_as_often_as_they_say(groups: int) -> None:
    assert covered(trials=60, groups=groups) >= 0.85


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("groups", "icc"), [(10, 0.1), (10, 0.3), (20, 0.3), (60, 0.1)])
def test_bounds_of_labels_needed_at_length(groups: int, icc: float) -> None:
    assert covered(trials=1500, groups=groups, icc=icc) >= 0.92


def pooled_errors(*, trials: int, groups: int, clips: int, icc: float, share: float) -> tuple[float, float, float]:
    """Of rows equally good, over 2 folds and 2 seeds: how often accuracy's and the difference's interval hold the
    truth, and how often p is at most .05. A group is as hard for a row in each seed."""
    rng, rows = np.random.default_rng(2), [ROWS[0], ROWS[1]]
    keys = {"key": [f"{n}" for n in range(groups * clips)], "label": ["a"] * (groups * clips)}
    held = np.zeros(3)
    for _ in range(trials):
        measured = []
        for row, fold in itertools.product(rows, (1, 2)):
            level = np.repeat(np.quantile(levels(share, icc), rng.random(groups)), clips)
            names = [f"{fold}-{n}" for n in np.repeat(np.arange(groups), clips)]
            for seed in (0, 1):
                told = ["a" if hit else "b" for hit in rng.random(groups * clips) < level]
                answers = {**keys, "group": names} | dict.fromkeys(protocols_of(()), told)
                measured.append(Measurement(row=row.name, fold=fold, seed=seed, answers=answers))
        found = compare(rows, measured, numbers=(), resamples=200)
        top1, record = found["rows"][1]["top1"]["fine-tune, all"], found["against random"][0]
        held += [
            top1["low"] <= share <= top1["high"],
            record["difference"]["low"] <= 0 <= record["difference"]["high"],
            record["p"] <= 0.05,
        ]
    accuracy, difference, wrong = held / trials
    return float(accuracy), float(difference), float(wrong)


def test_pooled_folds_and_seeds_hold_the_truth() -> None:
    accuracy, difference, wrong = pooled_errors(trials=120, groups=6, clips=8, icc=0.3, share=0.9)
    assert min(accuracy, difference) >= 0.85 and wrong <= 0.13


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("groups", "clips", "icc", "share"), [(5, 3, 0.1, 0.95), (5, 20, 0.3, 0.9), (20, 8, 0.3, 0.6)])
def test_pooled_folds_and_seeds_at_length(groups: int, clips: int, icc: float, share: float) -> None:
    accuracy, difference, wrong = pooled_errors(trials=1000, groups=groups, clips=clips, icc=icc, share=share)
    assert min(accuracy, difference) >= 0.92 and wrong <= 0.065


def test_few_groups_have_neither_intervals_nor_p() -> None:
    found = compare(ROWS, chains(groups=3), numbers=NUMBERS, resamples=100) | {"not run": []}
    assert {(r["p"], r["p_holm"], r["difference"]["low"]) for r in found["against random"]} == {(None, None, None)}
    against = next(table for table in tables_of(found) if table.title.endswith("against random"))
    assert {tuple(row[4:]) for row in against.rows} == {("none: 6 groups",) * 2}
    assert any("6 groups are too few for intervals and p" in note for note in notes_of(found))


def test_chance_is_the_commonest_class_of_the_test_answers() -> None:
    measured = []
    for m in chains():
        labels = ["class 0" if n % 10 else "class 1" for n in range(len(m.answers["label"]))]
        measured.append(dataclasses.replace(m, answers={**m.answers, "label": labels}))
    found = compare(ROWS, measured, numbers=NUMBERS, resamples=100)
    assert found["test"]["chance"] == pytest.approx(0.9, abs=0.01)
    assert f"always the commonest: {100 * found['test']['chance']:.1f} %" in " ".join(notes_of(found))


def test_caveats_of_a_row_are_said_once_with_the_number_of_runs() -> None:
    measured = [
        dataclasses.replace(m, caveats={"pretraining: task at chance": f"pretraining: stayed in fold {m.fold}"})
        if m.row == "good" and m.seed == 0
        else m
        for m in chains()
    ]
    found = compare(ROWS, measured, numbers=NUMBERS, resamples=100)
    assert found["caveats"][:1] == ["good: pretraining: stayed in fold 1 (the first of 2 such runs of 4)"]
    assert any(note.startswith("Mind: good: pretraining: stayed") for note in notes_of(found))


def test_a_row_that_metadata_comes_near_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare(ROWS, chains(), numbers=NUMBERS, resamples=100)["caveats"] == []
    monkeypatch.setitem(ACCURACY, "metadata only", {"2": 0.6, "5": 0.6, "all": 0.78})
    caveats = compare(ROWS, chains(), numbers=NUMBERS, resamples=100)["caveats"]
    assert [text.partition(": ")[0] for text in caveats] == ["good", "same"]
    assert all("metadata alone" in text for text in caveats)


# What people read ----------------------------------------------------------------------------------------------------


def test_figures_as_text() -> None:
    assert figure_text({"value": 0.464, "low": 0.424, "high": 0.502}) == "46.4 [42.4, 50.2]"
    assert figure_text({"value": 0.1, "low": -0.02, "high": 0.2}, signed=True) == "+10.0 [-2.0, +20.0]"
    assert figure_text({"value": 0.5, "low": None, "high": None}) == "50.0"
    assert figure_text(None) == ""


def test_the_tables_hold_every_row_and_say_what_was_not_run(result: dict[str, Any]) -> None:
    accuracy, cost, saved, against, together, between = tables_of(result)
    assert [row[0] for row in accuracy.rows] == ["random", "good", "same", "metadata only", ""]
    assert accuracy.rows[-1] == ["", "supervised", "net", *["not run"] * 7]
    assert accuracy.rows[3][3] == accuracy.rows[3][7] == ""  # metadata: no neighbour, no fine-tuning
    assert [row[0] for row in cost.rows] == [row[0] for row in saved.rows] == ["good", "same"]
    assert len(against.rows) == 14
    assert [row[1] for row in together.rows] == ["2"] * 7
    assert len(between.rows) == 1
    for table in tables_of(result):
        assert {len(row) for row in table.rows} == {len(table.head)}


def test_the_files_hold_the_figures(result: dict[str, Any], tmp_path: Path) -> None:
    write_comparison(tmp_path, result, command="rushes compare a|b <x>")
    good = result["rows"][1]["top1"]["fine-tune, all"]
    with (tmp_path / "comparison.csv").open(newline="") as file:
        lines = {line["member"]: line for line in csv.DictReader(file)}
    assert float(lines["good"]["fine-tune, all"]) == good["value"]
    assert float(lines["good"]["fine-tune, all, low"]) == good["low"]
    assert lines["metadata only"]["fine-tune, all"] == ""
    text = figure_text(good)
    assert f"| {text} |" in (tmp_path / "comparison.md").read_text()
    page = (tmp_path / "comparison.html").read_text()
    assert f'<td data-head="fine-tune, all">{text}</td>' in page
    assert "a|b &lt;x&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"][1]["top1"]["fine-tune, all"] == good


def test_a_name_does_not_break_the_markdown_table(result: dict[str, Any]) -> None:
    record = json.loads(json.dumps(result))
    record["rows"][1]["name"] = "a|b"
    lines = [line for line in to_markdown(record, command="x").splitlines() if "a\\|b" in line]
    assert len(lines[0].replace("\\|", "").split("|")) == 12
