"""Do the answers to original files agree with those on footage? Figures and sentence, for report and gate.

`rushes.serving.originals` sends the files through the serving path.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rushes.evaluation.report import interval_text
from rushes.evaluation.statistics import difference_interval, share_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedAnswer:
    """What became of one original file."""

    label: str = ""
    """The answer; "" where there is none."""
    refused: str = ""
    """Why the endpoint would refuse the file: the reason's slug."""
    absent: str = ""
    """Why the file could not be sent: it is gone, or another one now."""


def served_metrics(
    answers: Sequence[ServedAnswer],
    *,
    measured: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
) -> dict[str, Any]:
    """What metrics.json says of the answers to original files, beside evaluation's answers for the same segments.

    A file that the endpoint would refuse counts as a wrong answer that differs from evaluation's; one that is absent
    does not count.

    Args:
        answers: [n] of the serving path.
        measured: [n] labels that evaluation predicted from footage.
        labels: [n] the right ones.
        groups: [n] of the segments.
    """
    sent = np.array([not answer.absent for answer in answers], dtype=bool)
    served = np.array([answer.label for answer in answers], dtype=object)[sent]
    expected, right = np.array(measured, dtype=object)[sent], np.array(labels, dtype=object)[sent]
    names = np.array(groups, dtype=str)[sent]

    def interval(right: npt.NDArray[Any]) -> dict[str, Any]:
        return asdict(share_interval(right.astype(np.float64), names))

    counts = {
        "drawn": len(answers),
        "sent": int(sent.sum()),
        "refused": dict(Counter(answer.refused for answer in answers if answer.refused)),
        "absent": dict(Counter(answer.absent for answer in answers if answer.absent)),
    }
    if not sent.any():
        return counts
    on_footage, on_files = expected == right, served == right
    return counts | {
        "footage": interval(on_footage),
        "served": interval(on_files),
        "difference": asdict(difference_interval(on_files.astype(np.float64) - on_footage.astype(np.float64), names)),
        "agreement": interval(served == expected),
    }


def served_sentence(served: Mapping[str, Any] | None) -> str:
    """The figures of `served_metrics` in a sentence, or why there are none."""
    if not served or not served.get("drawn"):
        return "no original file was sent through the serving path: raise evaluate.originals, and evaluate again"
    if not served["sent"]:
        return (
            f"none of {served['drawn']} original files could be sent through the serving path "
            f"({_listed(served['absent'])}): evaluate where the files are"
        )
    parts = [
        f"{interval_text(served['agreement'])} of {served['sent']} original files are answered by the serving path as "
        "on footage",
        f"top-1 {_percent(served['served'])} against {_percent(served['footage'])} on footage, difference "
        f"{interval_text(served['difference'], signed=True)}",
    ]
    if served["refused"]:
        parts.append(f"{sum(served['refused'].values())} refused ({_listed(served['refused'])})")
    if served["absent"]:
        parts.append(f"{sum(served['absent'].values())} could not be sent ({_listed(served['absent'])})")
    return "; ".join(parts)


def _percent(interval: Mapping[str, Any]) -> str:
    return f"{100 * interval['value']:.1f} %"


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
