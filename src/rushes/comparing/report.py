"""A comparison for people and for programs: text cells, comparison.csv, .md, .html and .json."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rushes.comparing.tables import protocols_of
from rushes.evaluation.report import p_text, picture
from rushes.evaluation.statistics import MIN_GROUPS
from rushes.templates import page

Record = Mapping[str, Any]
_SAVED = (
    "Labels saved: how many more labels per class random weights need to be as good fine-tuned, by straight lines "
    "between the numbers that were run."
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as people read them."""

    title: str
    head: list[str]
    rows: list[list[str]]


def tables_of(result: Record) -> list[Table]:
    """Accuracy, cost, and the paired differences of a comparison."""
    found = [_accuracy(result), _cost(result), _labels_saved(result), _differences(result, "against random")]
    found += [_pretraining(result), _differences(result, "between members")]
    return [table for table in found if table.rows]


def notes_of(result: Record) -> list[str]:
    """What the figures mean, in a sentence or two each."""
    test = result["test"]
    chance = test.get("chance", 1 / test["classes"])
    return [
        *(f"Mind: {caveat}." for caveat in result.get("caveats", ())),
        f"{test['segments']} test segments of {test['groups']} groups, {test['classes']} classes (always the "
        f"commonest: {100 * chance:.1f} %); {_count(test['folds'], 'fold')}, {_count(test['seeds'], 'seed')}. The test "
        "split chose nothing; pretraining saw the unlabelled and training footage of its own fold only.",
        "Top-1 in %, with 95 % intervals that count groups, not segments: all folds' and seeds' answers about a group "
        "are one unit"
        + ("." if test["groups"] >= MIN_GROUPS else f" ({test['groups']} groups are too few for intervals and p)."),
        "Differences are paired; p by groups, two-sided, Holm-corrected within a table.",
        "GFLOPs: backbone training, forward and backward, per fold and seed. Frames: each time that one was shown. "
        "Hours: all pretraining runs of the row together, on the machine that trained.",
        *([_SAVED] if result["labels_per_class"] else []),
    ]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number != 1 else ''}"


def write_comparison(folder: Path, result: Record, *, command: str) -> None:
    """Writes comparison.json, .csv, .md and .html into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps({**result, "command": command}, indent=1))
    with (folder / "comparison.csv").open("w", newline="") as file:
        csv.writer(file).writerows(_csv_rows(result))
    (folder / "comparison.md").write_text(to_markdown(result, command=command))
    text = page(
        "rushes.comparing",
        "comparison.html",
        tables=tables_of(result),
        notes=notes_of(result),
        command=command,
        plot=picture(_draw, result),
    )
    (folder / "comparison.html").write_text(text)


def to_markdown(result: Record, *, command: str) -> str:
    """The tables and what they mean."""
    parts = [f"```sh\n{command}\n```"]
    for table in tables_of(result):
        lines = [table.head, ["---"] * len(table.head), *table.rows]
        text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts.append(f"**{table.title}**\n\n{text}")
    return "\n\n".join([*parts, *notes_of(result)]) + "\n"


def figure_text(interval: Record | None, *, signed: bool = False) -> str:
    """`46.4 [42.4, 50.2]`, in % or points; without bounds where there are too few groups."""
    if interval is None:
        return ""
    sign = "+" if signed else ""
    value = f"{100 * interval['value']:{sign}.1f}"
    if interval["low"] is None:
        return value
    return f"{value} [{100 * interval['low']:{sign}.1f}, {100 * interval['high']:{sign}.1f}]"


def saved_text(saved: Record, *, labels: int, first: int) -> str:
    """`+3.2 [+0.1, > 15]`: beyond what all labels can show is `> n`, what the first number can show is `<= n`."""

    def number(needed: float | None) -> str:
        if needed is None:
            return f"> {saved['most'] - labels:+.0f}"
        return f"{'≤ ' if needed <= first else ''}{needed - labels:+.1f}"

    value = number(saved["needed"])
    return f"{value} [{number(saved['low'])}, {number(saved['high'])}]" if saved["known"] else value


def _accuracy(result: Record) -> Table:
    names = protocols_of(result["labels_per_class"])
    rows = [
        [row["name"], row["init"], row["network"], *(figure_text(row["top1"].get(name)) for name in names)]
        for row in result["rows"]
    ]
    rows += [["", "supervised", network, *(["not run"] * len(names))] for network in result.get("not run", [])]
    heads = [name.replace("nearest neighbour, all", "nearest neighbour") for name in names]
    return Table(title="Top-1, %", head=["member", "init", "network", *heads], rows=rows)


def _cost(result: Record) -> Table:
    rows = []
    for row in result["rows"]:
        pretext = row["pretext"]
        if row["gflops"]:
            answers = f"{100 * pretext['accuracy']:.1f} ({100 * pretext['chance']:.1f})" if pretext else ""
            rows.append([row["name"], f"{row['gflops']:,.0f}", f"{row['frames']:,.0f}", f"{row['hours']:.3f}", answers])
    head = ["member", "GFLOPs", "frames", "hours", "pretext accuracy, % (chance)"]
    return Table(title="Cost and accuracy of pretraining", head=head, rows=rows)


def _labels_saved(result: Record) -> Table:
    numbers = result["labels_per_class"]
    rows = [
        [row["name"], *(saved_text(row["labels_saved"][str(n)], labels=n, first=numbers[0]) for n in numbers)]
        for row in result["rows"]
        if row["labels_saved"]
    ]
    return Table(title="Labels per class saved, fine-tune", head=["member", *(f"at {n}" for n in numbers)], rows=rows)


def _differences(result: Record, kind: str) -> Table:
    rows = [
        [
            record["member"],
            record["other"],
            record["protocol"],
            figure_text(record["difference"], signed=True),
            *(p_text(record[name], groups=record["difference"]["groups"]) for name in ("p", "p_holm")),
        ]
        for record in result[kind]
    ]
    head = ["member", "minus", "protocol", "points", "p", "p (Holm)"]
    return Table(title=f"Paired differences, {kind}", head=head, rows=rows)


def _pretraining(result: Record) -> Table:
    rows = [
        [record["protocol"], str(record["members"]), figure_text(record["difference"], signed=True)]
        for record in result["pretraining"]
    ]
    head = ["protocol", "members", "points"]
    return Table(title="All pretrained members together, each against its random weights", head=head, rows=rows)


def _csv_rows(result: Record) -> list[list[Any]]:
    """One row per member: figures as shares of 1, each with its bounds."""
    protocols, numbers = protocols_of(result["labels_per_class"]), result["labels_per_class"]
    bounds = ("", ", low", ", high")
    head = ["member", "init", "network", "gflops", "frames", "hours", "pretext accuracy", "pretext chance"]
    head += [f"{name}{bound}" for name in protocols for bound in bounds]
    head += [f"labels needed for {n}{bound}" for n in numbers for bound in bounds]
    lines: list[list[Any]] = [head]
    for row in result["rows"]:
        line = [row[name] for name in ("name", "init", "network", "gflops", "frames", "hours")]
        line += [(row["pretext"] or {}).get(name) for name in ("accuracy", "chance")]
        line += [(row["top1"].get(name) or {}).get(part) for name in protocols for part in ("value", "low", "high")]
        saved = row["labels_saved"]
        line += [(saved.get(str(n)) or {}).get(part) for n in numbers for part in ("needed", "low", "high")]
        lines.append(line)
    return lines + [["", "supervised", network, "not run"] for network in result.get("not run", [])]


def _draw(pyplot: Any, result: Record) -> Any:
    """Every figure as a point with its interval, one panel per protocol."""
    names = protocols_of(result["labels_per_class"])
    rows: Sequence[Record] = result["rows"][::-1]
    figure, panels = pyplot.subplots(
        1, len(names), sharex=True, sharey=True, figsize=(2 + 2.2 * len(names), 0.8 + 0.34 * len(rows)), squeeze=False
    )
    for axes, name in zip(panels[0], names, strict=True):
        for height, row in enumerate(rows):
            interval = row["top1"].get(name)
            if interval is None:
                continue
            colour = "#94a3b8" if row["baseline"] in ("", row["name"]) else "#2563eb"
            axes.plot([100 * interval["value"]], [height], "o", color=colour)
            if interval["low"] is not None:
                axes.plot([100 * interval["low"], 100 * interval["high"]], [height, height], color=colour)
        axes.axvline(100 * result["test"]["chance"], color="#cbd5e1", linestyle=":")
        axes.set_title(name, size=9)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows], size=8)
        axes.tick_params(axis="x", labelsize=8)
    return figure
