"""The README of each component, made from its signature and its step's docstring.

python -m pipelines.readmes            writes components/*/README.md
python -m pipelines.readmes --check    fails where one differs from what is committed
"""

import argparse
import ast
import sys
from pathlib import Path

from rushes.steps import STEPS

COMPONENTS = Path(__file__).parents[1] / "components"
PACKAGE = Path(__file__).parents[1] / "src" / "rushes"
OTHERS = {
    "summary": "orchestration.summary.write_summary",
    "plan": "comparing.protocol.write_plan",
    "folds": "comparing.protocol.write_folds",
    "chain": "comparing.protocol.write_answers",
    "comparison": "comparing.protocol.write_result",
}
"""The function of this package that does a component's work, where it is no step."""
NAMES = (*STEPS, *OTHERS)
"""Of the components: the steps, what a run ends with, and a comparison's tasks."""


def render(step: str) -> str:
    """Text of a component's README."""
    (declared,) = _functions(COMPONENTS / step / "component.py", step)
    module, _, function = (f"steps.{step}.{step}" if step in STEPS else OTHERS[step]).rpartition(".")
    (worker,) = _functions(PACKAGE.joinpath(*module.split(".")).with_suffix(".py"), function)
    lines = [f"# {step}", "", ast.get_docstring(declared) or "", "", "| argument | type |", "|---|---|"]
    lines += [f"| `{arg.arg}` | `{ast.unparse(arg.annotation)}` |" for arg in declared.args.args if arg.annotation]
    if isinstance(declared.returns, ast.expr) and not isinstance(declared.returns, ast.Constant):
        lines += ["", f"Returns `{ast.unparse(declared.returns)}`."]
    text = ast.get_docstring(worker) or ""
    lines += [
        "",
        "What the step does:",
        "",
        "```",
        text,
        "```",
        "",
        f"Code: `rushes.{module}`" + (f"; alone: `rushes {step} --help`." if step in STEPS else "."),
    ]
    return "\n".join(lines) + "\n"


def _functions(path: Path, name: str) -> list[ast.FunctionDef]:
    return [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == name]


def main() -> int:
    """Writes or checks all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    stale = []
    for step in NAMES:
        path = COMPONENTS / step / "README.md"
        if check and (not path.is_file() or path.read_text() != render(step)):
            stale.append(str(path))
        elif not check:
            path.write_text(render(step))
    if stale:
        sys.stderr.write(f"not what the components say: {', '.join(stale)}: run `make compile` and commit\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
