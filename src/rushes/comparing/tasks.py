"""A comparison as the tasks of a compiled pipeline: plan, footage of every fold, chains, tables. Each reads files."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rushes.comparing.chain_process import run_chain
from rushes.comparing.chains import footage_in
from rushes.comparing.comparison_plan import ComparisonPlan, ComparisonSettings, make_plan, sample_folds
from rushes.comparing.members import Member, parse_models
from rushes.comparing.report import write_comparison
from rushes.comparing.result import result_of
from rushes.journal import work_of
from rushes.steps.base import Context, reported
from rushes.store import Manifest
from rushes.strict import Json


@reported("plan")
def write_plan(
    *, models: Sequence[Mapping[str, Json]], settings: ComparisonSettings, out: Path, pin: Path
) -> ComparisonPlan:
    """Checks the members, and pins the videos for each fold.

    Args:
        models: recipes as plain data, each under its name in the tables; all need the same footage.
        settings: shared by all members.
        out: where the plan goes.
        pin: where the pointer to the first fold's videos goes, which are sampled first.

    Raises:
        UserError: models that cannot be compared, videos without labels, more folds than groups.
    """
    members = [Member(name=recipe.name, recipe=recipe) for recipe in parse_models(models)]
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as work:
        plan = make_plan(members, settings, work=Path(work))
    plan.write(out)
    pin.write_text(plan.pins[0])
    return plan


@reported("folds")
def write_folds(*, plan: Path, out: Path) -> list[str]:
    """Samples the videos for each fold. Shards do not depend on folds: encoded ones are found, not encoded again.

    Args:
        plan: from `write_plan`.
        out: where the plan goes, now with footage.

    Returns:
        The names of the chains to run.
    """
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as work:
        sampled = sample_folds(ComparisonPlan.read(plan), work=Path(work))
    sampled.write(out)
    return [chain.name for chain in sampled.chains]


def write_answers(*, plan: Path, chain: str, out: Path) -> Manifest:
    """Pretrains, fine-tunes at each number of labels, and measures; each is a step, and continues where it stopped.

    Args:
        plan: from `write_folds`.
        chain: name of one of its chains.
        out: where the pointer to the answers about the test split goes.
    """
    planned = ComparisonPlan.read(plan)
    (own,) = [one for one in planned.chains if one.name == chain]
    with work_of(chain), tempfile.TemporaryDirectory(prefix="rushes-compare-") as work:
        footage_in(Path(work), fold=own.fold).write_text(planned.footage[own.fold - 1])
        manifest = run_chain(own.write_order(Path(work)))
    manifest.write(out)
    return manifest


@reported("comparison")
def write_result(*, plan: Path, answers: Mapping[str, Path], name: str, command: str, page: Path, tables: Path) -> None:
    """Makes the tables from the chains' answers: comparison.html, .md, .csv and .json.

    Args:
        plan: from `write_folds`.
        answers: pointers from `write_answers`, by the chain's name.
        name: of the comparison: the files go to `comparisons/<name>/` of the store.
        command: the command that started it, for readers.
        page: where a copy of the page goes.
        tables: where a copy of the tables in Markdown goes.
    """
    context = Context(step="comparison")
    result = result_of(ComparisonPlan.read(plan), {chain: Manifest.read(path) for chain, path in answers.items()})
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as folder:
        write_comparison(Path(folder), result, command=command)
        for file in Path(folder).iterdir():
            context.store.write(f"{stored_at(name)}/{file.name}", file.read_bytes())
        shutil.copyfile(Path(folder) / "comparison.html", page)
        shutil.copyfile(Path(folder) / "comparison.md", tables)
    context.end(stored_at(name))


def stored_at(name: str) -> str:
    """Folder in the store of a comparison that ran on a cluster."""
    return f"comparisons/{name}"
