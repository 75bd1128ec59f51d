"""The README of each component, made from its component.py alone: what it says it does, and its signature.

python -m pipelines.readmes            writes components/*/README.md
python -m pipelines.readmes --check    fails where a committed file differs

What the step itself does is said in its own docstring, which a README does not repeat: a change in src/ changes no
README.
"""

import argparse
import ast
import re
import sys
from pathlib import Path

COMPONENTS = Path(__file__).parents[1] / "components"


def names() -> list[str]:
    """Names of the components, in alphabetical order."""
    return sorted(path.parent.name for path in COMPONENTS.glob("*/component.py"))


def render(name: str) -> str:
    """Text of a component's README.

    Raises:
        ValueError: the docstring of component.py does not end with "See `rushes.module`."
    """
    module = ast.parse((COMPONENTS / name / "component.py").read_text())
    see = re.search(r"See `(rushes\.[\w.]+)`\.$", ast.get_docstring(module) or "")
    if see is None:
        raise ValueError(f"components/{name}/component.py: its docstring must end with: See `rushes.MODULE`.")
    (declared,) = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
    lines = [f"# {name}", "", ast.get_docstring(declared) or "", "", "| argument | type |", "|---|---|"]
    lines += [f"| `{arg.arg}` | `{ast.unparse(arg.annotation)}` |" for arg in declared.args.args if arg.annotation]
    if isinstance(declared.returns, ast.expr) and not isinstance(declared.returns, ast.Constant):
        lines += ["", f"Returns `{ast.unparse(declared.returns)}`."]
    source = f"src/{see[1].replace('.', '/')}.py"
    alone = f"; without Kubeflow: `rushes {name} --help`" if see[1].startswith("rushes.steps.") else ""
    lines += ["", f"The work: [{see[1]}](../../{source}){alone}."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes or checks all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    stale = []
    for name in names():
        path = COMPONENTS / name / "README.md"
        if not check:
            path.write_text(render(name))
        elif not path.is_file() or path.read_text() != render(name):
            stale.append(str(path))
    if stale:
        sys.stderr.write(f"not what component.py says: {', '.join(stale)}: run `make compile` and commit\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
