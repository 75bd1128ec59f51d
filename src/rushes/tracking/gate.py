"""The promotion gate: each rule is a small pure function that returns a verdict and a sentence.

A challenger is promoted when every rule passes. Missing evidence does not pass, and neither does an inconclusive
comparison: the champion stays, and the sentence says what would settle it (docs/methods.md#promotion-gate).

A new rule is a function here and a line in `PRECONDITIONS`, `FIRST_CHAMPION` or `CHALLENGER`. It finds its data in
`Evidence`, and its settings in `PromoteConfig`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rushes.config import PromoteConfig
from rushes.evaluation.served import served_sentence
from rushes.evaluation.statistics import (
    MIN_GROUPS,
    design_effect,
    difference_lower_bound,
    paired_p,
    share_above_p,
)

RuleVerdict = Literal["pass", "fail", "inconclusive", "missing"]
Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """The verdict of one rule."""

    rule: str
    verdict: RuleVerdict
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PairedCorrectness:
    """Whether challenger and champion are right about the same test videos, [n] each, one entry per video."""

    challenger: Correct
    champion: Correct
    groups: npt.NDArray[np.str_]

    def __post_init__(self) -> None:
        assert len(self.challenger) == len(self.champion) == len(self.groups), "one entry per video, in one order"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules judge by."""

    metrics: Mapping[str, Any]
    """The evaluation's metrics.json."""
    export: Mapping[str, Any]
    """The export's summary."""
    correct: Correct
    """[n] whether the challenger is right about each test video."""
    baseline: Correct
    """[n] the same for the network fine-tuned from random weights."""
    groups: npt.NDArray[np.str_]
    """[n] group of each test video."""
    champion: PairedCorrectness | str | None
    """Challenger and champion on the same test videos, or why they cannot be compared; None without a champion."""
    config: PromoteConfig
    tolerance: float
    """Largest difference of a probability between torch and onnxruntime (`export.tolerance`)."""
    seed: int


def rule_on(evidence: Evidence) -> list[Ruling]:
    """The rulings of all rules that apply: those for a first champion, or those against the present one."""
    rules = FIRST_CHAMPION if evidence.champion is None else CHALLENGER
    return [rule(evidence) for rule in (*PRECONDITIONS, *rules)]


def passed(rulings: Sequence[Ruling]) -> bool:
    """Whether every rule passed; no rule at all is no evidence."""
    return bool(rulings) and all(ruling.verdict == "pass" for ruling in rulings)


def reason(rulings: Sequence[Ruling]) -> str:
    """The decision in a sentence: the rules that did not pass, or all but the preconditions."""
    shown = [ruling for ruling in rulings if ruling.verdict != "pass"] or rulings[len(PRECONDITIONS) :]
    return "; ".join(f"{ruling.rule}: {ruling.verdict}: {ruling.sentence}" for ruling in shown)


# Rules ---------------------------------------------------------------------------------------------------------------


def support(per_class: Sequence[Mapping[str, Any]]) -> Ruling:
    """Every class must occur in the test set."""
    if not per_class:
        return Ruling(rule="support", verdict="missing", sentence="the evaluation lists no classes: evaluate again")
    absent = [row["label"] for row in per_class if row["support"] == 0]
    if absent:
        return Ruling(rule="support", verdict="missing", sentence=f"no test video of {', '.join(absent)}")
    fewest = min(row["support"] for row in per_class)
    return Ruling(rule="support", verdict="pass", sentence=f"every class has at least {fewest} test videos")


def parity(evidence: Mapping[str, Any], *, tolerance: float) -> Ruling:
    """The exported graph must compute what the trained network computes."""
    difference = evidence.get("parity")
    if not isinstance(difference, (int, float)) or isinstance(difference, bool) or not 0 <= difference < math.inf:
        return Ruling(rule="parity", verdict="missing", sentence="the export carries no parity figure: export again")
    verdict: RuleVerdict = "pass" if difference <= tolerance else "fail"
    return Ruling(
        rule="parity",
        verdict=verdict,
        sentence=f"torch and onnxruntime differ by at most {difference:.1e} (allowed {tolerance:.0e})",
    )


def as_served(served: Mapping[str, Any] | None, *, config: PromoteConfig) -> Ruling:
    """The serving path must answer original files as evaluation answered the footage made of them."""
    rule, sentence = "as served", served_sentence(served)
    if not config.min_agreement:
        return Ruling(rule=rule, verdict="pass", sentence=f"{sentence}; not asked for (promote.min_agreement 0)")
    if not served or not served.get("sent"):
        return Ruling(rule=rule, verdict="missing", sentence=sentence)
    agreement, difference = served["agreement"]["value"], served["difference"]
    needed = f"{sentence}; needed {100 * config.min_agreement:.1f} % agreement"
    if not agreement >= config.min_agreement:  # also where it is no number
        return Ruling(rule=rule, verdict="fail", sentence=f"{needed}: the endpoint is not what was evaluated")
    shown = difference["low"] is None or not difference["low"] <= 0 <= difference["high"]
    if abs(difference["value"]) > config.max_skew and shown:
        limit = f"at most {100 * config.max_skew:.1f} points of difference, or an interval that holds 0"
        return Ruling(rule=rule, verdict="fail", sentence=f"{needed}, {limit}")
    return Ruling(rule=rule, verdict="pass", sentence=needed)


def above_chance(right: Correct, groups: npt.NDArray[np.str_], *, majority: float, confidence: float) -> Ruling:
    """A first champion must be better than always answering the commonest class (one-sided, by groups)."""
    if not len(right):
        return _no_video("above chance")
    p, count = share_above_p(right, groups, share=majority), len(np.unique(groups))
    figures = (
        f"{_share(right)} right of {len(right)} in {count} groups; the commonest class is {100 * majority:.1f} % "
        f"(p = {p:.2g})"
    )
    if p < 1 - confidence:
        return Ruling(rule="above chance", verdict="pass", sentence=figures)
    if right.mean() > majority and count < MIN_GROUPS:
        few = f"{figures}; so few groups show little: label more sources"
        return Ruling(rule="above chance", verdict="inconclusive", sentence=few)
    return Ruling(rule="above chance", verdict="fail", sentence=figures)


def not_below_random(
    right: Correct, baseline: Correct, groups: npt.NDArray[np.str_], *, resamples: int, seed: int
) -> Ruling:
    """A first champion must not be significantly worse than the same network fine-tuned from random weights."""
    if not len(right):
        return _no_video("not below random init")
    assert len(right) == len(baseline) == len(groups), "one entry per video, in one order"
    p = paired_p(right.astype(np.float64) - baseline.astype(np.float64), groups, resamples=resamples, seed=seed)
    worse = right.mean() < baseline.mean() and p < 0.05
    return Ruling(
        rule="not below random init",
        verdict="fail" if worse else "pass",
        sentence=f"{_share(right)} right, from random weights {_share(baseline)} (p = {p:.2g})",
    )


def against_champion(comparison: PairedCorrectness, *, config: PromoteConfig, seed: int) -> Ruling:
    """The one-sided lower bound of the paired difference must be what `config.require` asks for."""
    if not len(comparison.groups):
        return _no_video(config.require)
    difference = comparison.challenger.astype(np.float64) - comparison.champion.astype(np.float64)
    low = difference_lower_bound(difference, comparison.groups, confidence=config.confidence)
    needed = 0.0 if config.require == "better" else -config.margin
    groups = len(np.unique(comparison.groups))
    p = paired_p(difference, comparison.groups, resamples=config.resamples, seed=seed)
    figures = (
        f"{_share(comparison.challenger)} against the champion's {_share(comparison.champion)} on {len(difference)} "
        f"videos of {groups} groups; lower bound of the difference {100 * low:+.1f} points, "
        f"needed above {100 * needed:+.1f} (two-sided p = {p:.2g})"
    )
    if low > needed and groups >= config.min_groups:
        return Ruling(rule=config.require, verdict="pass", sentence=figures)
    if low > needed:
        return Ruling(
            rule=config.require,
            verdict="inconclusive",
            sentence=f"{figures}; fewer than {config.min_groups} groups decide nothing: label more sources",
        )
    mean = float(difference.mean())
    verdict: RuleVerdict = "inconclusive" if mean > needed else "fail"
    more = _videos_needed(difference, comparison.groups, gap=mean - needed)
    return Ruling(rule=config.require, verdict=verdict, sentence=figures + more)


def _against_champion(evidence: Evidence) -> Ruling:
    if not isinstance(evidence.champion, PairedCorrectness):
        return Ruling(rule="champion scored again", verdict="missing", sentence=str(evidence.champion))
    return against_champion(evidence.champion, config=evidence.config, seed=evidence.seed)


def _above_chance(evidence: Evidence) -> Ruling:
    majority = max(evidence.metrics["majority"], evidence.metrics["chance"])
    return above_chance(evidence.correct, evidence.groups, majority=majority, confidence=evidence.config.confidence)


def _not_below_random(evidence: Evidence) -> Ruling:
    return not_below_random(
        evidence.correct,
        evidence.baseline,
        evidence.groups,
        resamples=evidence.config.resamples,
        seed=evidence.seed,
    )


Rule = Callable[[Evidence], Ruling]
PRECONDITIONS: tuple[Rule, ...] = (
    lambda evidence: support(evidence.metrics["per_class"]),
    lambda evidence: parity(evidence.export, tolerance=evidence.tolerance),
    lambda evidence: as_served(evidence.metrics.get("served"), config=evidence.config),
)
"""For every challenger."""
FIRST_CHAMPION: tuple[Rule, ...] = (
    _above_chance,
    _not_below_random,
)
"""Where an endpoint has no champion yet."""
CHALLENGER: tuple[Rule, ...] = (_against_champion,)
"""Where it has one."""


def _no_video(rule: str) -> Ruling:
    return Ruling(rule=rule, verdict="missing", sentence="no test video: label some")


def _videos_needed(difference: npt.NDArray[np.float64], groups: npt.NDArray[np.str_], *, gap: float) -> str:
    """How many videos in such groups would show a difference of this size (80 % power, one-sided 95 %)."""
    if gap <= 0:
        return ""
    alone = (1.645 + 0.842) ** 2 * float(difference.var()) / gap**2
    needed = max(math.ceil(alone * design_effect(difference, groups)), len(difference))
    return f"; a difference of this size takes about {needed} test videos in groups like these to show"


def _share(right: Correct) -> str:
    return f"{100 * float(right.mean()):.1f} %"
