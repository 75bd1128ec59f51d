"""What an evaluation prints: chance, classes without a segment, p-values of few groups, metadata and caveats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushes.config import EvaluateConfig
from rushes.evaluation.report import write_report
from rushes.evaluation.score import ROWS, figures_of, summary_of

LABELS = ("jump", "run", "walk")


def figures(
    truth: list[str], groups: list[str], *, right: dict[tuple[str, str], float] | None = None
) -> dict[str, Any]:
    """Of three classes, answered rightly in these shares of the segments (default .5), else with the next class."""
    rng, numbers = np.random.default_rng(0), np.array([LABELS.index(label) for label in truth])
    answers = {}
    for row in (*ROWS, ("linear probe", "metadata")):
        hit = rng.random(len(numbers)) < (right or {}).get(row, 0.5)
        answers[row] = np.where(hit, numbers, (numbers + 1) % 3)
    return figures_of(
        answers,
        labels=LABELS,
        truth=numbers,
        groups=np.array(groups),
        manifest_sha256="0",
        config=EvaluateConfig(),
        seed=0,
    )


def page(metrics: dict[str, Any], folder: Path, *caveats: str) -> str:
    write_report(
        folder / "report.html",
        metrics=metrics | {"caveats": list(caveats)},
        histories={name: [{"epoch": 1, "accuracy": 0.5}] for name in ("backbone", "classifier")},
        footage={},
        lineage={},
        served="not sent",
    )
    return (folder / "report.html").read_text()


MANY = [f"g{n % 20}" for n in range(200)]


def test_chance_is_the_commonest_class_and_a_class_without_a_segment_has_no_recall(tmp_path: Path) -> None:
    metrics = figures(["walk"] * 180 + ["run"] * 20, MANY)
    assert (metrics["chance"], metrics["majority"], metrics["commonest"]) == (0.9, 0.9, "walk")
    jump, run, walk = metrics["per_class"]
    assert (jump["support"], jump["recall"], jump["interval"]) == (0, None, None)
    assert run["support"] == 20 and walk["interval"]["low"] < walk["recall"] < walk["interval"]["high"]
    text = page(metrics, tmp_path)
    assert "<em>walk</em>, the commonest class, is right on 90.0 %" in text and "33.3 %" not in text
    assert "<td>jump<td>0<td>no test segment" in text


@given(st.lists(st.sampled_from(["jump", "run", "walk"]), min_size=1, max_size=60))
@settings(max_examples=30)
def test_no_constant_answer_beats_chance(truth: list[str]) -> None:
    metrics = figures(truth, MANY[: len(truth)])
    assert metrics["chance"] == max(truth.count(label) for label in set(truth)) / len(truth)
    assert metrics["commonest"] in truth
    assert [row["recall"] is None for row in metrics["per_class"]] == [c not in truth for c in LABELS]


def test_few_groups_have_neither_interval_nor_p(tmp_path: Path) -> None:
    truth = ["jump", "run", "walk"] * 20
    few = figures(truth, [f"g{n % 6}" for n in range(60)], right={("fine-tune", "pretrained"): 1.0})
    assert [row["p"] for row in few["differences"]] == [None] * 3
    text = page(few, tmp_path)
    assert text.count("none: 6 groups") == 3 and "100.0 % (no interval: 6 groups)" in text
    many = figures(truth, MANY[:60], right={("fine-tune", "pretrained"): 1.0})
    row = many["differences"][0]
    assert row["p"] < 0.05 < 1 and row["pretrained - random"]["low"] > 0


def test_metadata_stands_beside_the_model(tmp_path: Path) -> None:
    truth = ["jump", "run", "walk"] * 40
    rates = {("fine-tune", "pretrained"): 0.6, ("linear probe", "metadata"): 0.9}
    metrics = figures(truth, MANY[:120], right=rates)
    beside = metrics["metadata"]
    assert beside["top1"]["value"] == pytest.approx(0.9, abs=0.1)
    first = metrics["rows"][0]["top1"]["value"]
    assert beside["model - metadata"]["value"] == pytest.approx(first - beside["top1"]["value"])
    assert [row["init"] for row in metrics["rows"]] == ["pretrained", "random"] * 3
    text = page(metrics, tmp_path, "pretraining: <b>stayed</b>")
    assert f"metadata only<td>{100 * beside['top1']['value']:.1f} %" in text
    assert "Mind: pretraining: &lt;b&gt;stayed&lt;/b&gt;." in text
    assert summary_of(metrics | {"caveats": ["x"], "served": {}})["caveats"] == ["x"]
