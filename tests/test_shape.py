"""The shape of the source: short functions, short files, a docstring per module, no circles of imports."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FUNCTION_LINES, FILE_LINES, SKIPS = 45, 400, 30
FOLDERS = ("src", "components", "deploy", "pipelines", "benchmarks", "examples", "tests")


def modules() -> dict[str, Path]:
    """Every module of the source by its name; a package's name stands for its __init__.py."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def trees() -> dict[str, ast.Module]:
    """Every module, parsed when the first test asks for one: each process of the tests collects this file."""
    return {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def long_functions(tree: ast.Module) -> list[str]:
    """Functions that are too long, from `def` to their last line."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions]
    return [f"{name}: {length} lines" for name, length in lengths if length > FUNCTION_LINES]


class Imports(ast.NodeVisitor):
    """Modules among `names` that are imported when a module is.

    Without the imports inside functions, which run later, and those under TYPE_CHECKING, which never run: neither can
    make a circle.
    """

    def __init__(self, names: set[str]) -> None:
        self.names, self.found = names, set[str]()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Skips the body."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Skips the body."""

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        skipped = isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
        for child in node.orelse if skipped else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names} & self.names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            self.found |= {inner if inner in self.names else str(node.module)} & self.names


def imports(tree: ast.Module, names: set[str]) -> set[str]:
    visitor = Imports(names)
    visitor.visit(tree)
    return visitor.found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("name", MODULES)
def test_functions_and_files_are_short_and_a_module_says_what_it_is(name: str) -> None:
    assert long_functions(trees()[name]) == []
    assert len(MODULES[name].read_text().splitlines()) <= FILE_LINES
    assert ast.get_docstring(trees()[name]), "a module without a docstring"


def test_no_module_imports_itself_through_others() -> None:
    assert circle({name: imports(tree, set(MODULES)) - {name} for name, tree in trees().items()}) == []


def test_formatting_is_switched_off_in_few_places() -> None:
    mark = "fmt: " + "skip"
    counts = {
        str(path.relative_to(ROOT)): path.read_text().count(mark)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sum(counts.values()) <= SKIPS, {path: count for path, count in counts.items() if count}


# The checks see what they should --------------------------------------------------------------------------------------


def test_a_long_function_is_found_wherever_it_is() -> None:
    body = "\n".join(["        x = 1"] * FUNCTION_LINES)
    assert long_functions(ast.parse(f"class A:\n    def f(self):\n{body}")) == ["f: 46 lines"]
    assert long_functions(ast.parse(f"class A:\n    def f(self):\n{body.removesuffix('        x = 1')}")) == []


def test_imports_are_those_that_run_when_the_module_is_imported() -> None:
    text = """
import a, outside
from p import b, function
try:
    import c
except ImportError:
    c = None
if TYPE_CHECKING:
    import never
class Box:
    import d
    def later(self):
        import never
"""
    names = {"a", "p", "p.b", "c", "d", "never"}
    assert imports(ast.parse(text), names) == {"a", "p", "p.b", "c", "d"}


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
