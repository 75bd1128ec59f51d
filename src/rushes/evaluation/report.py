"""report.html: one self-contained page, to be read before a model is served."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rushes.templates import page


def write_report(
    path: Path,
    *,
    metrics: Mapping[str, Any],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    footage: Mapping[str, Any],
    lineage: Mapping[str, str],
    served: str,
) -> None:
    """Writes the page: accuracy beside that of random initialisation, confusion, curves, data and lineage."""
    text = page(
        "rushes.evaluation",
        "report.html",
        metrics=metrics,
        footage=footage,
        lineage=lineage,
        served=served,
        rows=[row | {"text": interval_text(row["top1"])} for row in metrics["rows"]],
        differences=[_difference(row) for row in metrics["differences"]],
        metadata=interval_text(metrics["metadata"]["top1"]),
        beside_metadata=interval_text(metrics["metadata"]["model - metadata"], signed=True),
        classes=[row | {"text": recall_text(row["interval"])} for row in metrics["per_class"]],
        confusion=picture(_draw_confusion, metrics),
        curves=picture(_draw_curves, histories),
    )
    path.write_text(text)


def _difference(row: Mapping[str, Any]) -> dict[str, Any]:
    interval = row["pretrained - random"]
    return {**row, "text": interval_text(interval, signed=True), "p": p_text(row["p"], groups=interval["groups"])}


def p_text(p: float | None, *, groups: int) -> str:
    """A p-value with two digits, or that there is none."""
    return f"none: {groups} groups" if p is None else f"{p:.2g}"


def recall_text(interval: Mapping[str, Any] | None) -> str:
    """Recall as `interval_text`; a class without a test segment has none."""
    return interval_text(interval) if interval else "no test segment"


def interval_text(interval: Mapping[str, Any], *, signed: bool = False) -> str:
    """A share as text, `71.2 % [65.0, 77.1]`, or a difference of shares (`signed`), in points."""
    sign = "+" if signed else ""
    value = f"{100 * interval['value']:{sign}.1f} {'points' if signed else '%'}"
    if interval["low"] is None:
        return f"{value} (no interval: {interval['groups']} groups)"
    return f"{value} [{100 * interval['low']:{sign}.1f}, {100 * interval['high']:{sign}.1f}]"


def picture(draw: Any, data: Any) -> str:
    """The figure that `draw(pyplot, data)` makes, as the data URI of an SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = draw(pyplot, data)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _draw_confusion(pyplot: Any, metrics: Mapping[str, Any]) -> Any:
    labels, table = metrics["labels"], metrics["confusion"]
    side = 2 + 0.45 * len(labels)
    figure, axes = pyplot.subplots(figsize=(side, side))
    axes.imshow(table, cmap="Blues")
    for row, counts in enumerate(table):
        for column, count in enumerate(counts):
            dark = count > 0.6 * max(map(max, table))
            axes.text(column, row, count or "", ha="center", va="center", color="white" if dark else "#223", size=9)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def _draw_curves(pyplot: Any, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Any:
    figure, panels = pyplot.subplots(1, len(histories), figsize=(4 * len(histories), 2.8))
    titles = {"backbone": "pretraining", "classifier": "fine-tuning", "baseline": "fine-tuning from random"}
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        epochs, marker = [r["epoch"] for r in history], "o" if len(history) == 1 else ""  # a line needs two points
        for key, style in (("accuracy", "-"), ("val_accuracy", "--")):
            if history and key in history[0]:
                axes.plot(epochs, [r[key] for r in history], style, marker=marker, label=key.replace("_", " "))
        axes.set_title(titles.get(name, name), size=10)
        axes.set_xlabel("epoch")
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, fontsize=8)
    return figure
