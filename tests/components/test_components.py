"""Components stay thin, and every step has exactly one."""

import ast
import re
from pathlib import Path

import pytest

from pipelines.readmes import names, render
from rushes.steps import STEPS

COMPONENTS = Path(__file__).parents[2] / "components"
NAMES = (*STEPS, "summary", "plan", "folds", "chain", "comparison")


def source_of(step: str) -> ast.Module:
    return ast.parse((COMPONENTS / step / "component.py").read_text())


def test_every_step_has_one_component_and_a_readme() -> None:
    assert names() == sorted(NAMES)
    assert sorted(path.parent.name for path in COMPONENTS.glob("*/README.md")) == sorted(NAMES)


@pytest.mark.parametrize("step", NAMES)
def test_a_component_imports_nothing_heavy_at_module_level(step: str) -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in source_of(step).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported <= {"typing", "kfp", "components.image"}


@pytest.mark.parametrize("step", NAMES)
def test_a_component_only_imports_calls_and_logs(step: str) -> None:
    (function,) = [node for node in source_of(step).body if isinstance(node, ast.FunctionDef)]
    assert function.name == step
    assert not [node for node in ast.walk(function) if isinstance(node, (ast.If, ast.Try, ast.While))]
    body = function.body[1:]
    last, first = body[-1].end_lineno, body[0].lineno
    assert last is not None and last - first < 20


@pytest.mark.parametrize("step", NAMES)
def test_a_readme_is_made_from_its_component_and_leads_to_the_work(step: str) -> None:
    readme = COMPONENTS / step / "README.md"
    assert readme.read_text() == render(step)
    (link,) = re.findall(r"\]\(([^)]+)\)", readme.read_text())
    assert (readme.parent / link).is_file()
