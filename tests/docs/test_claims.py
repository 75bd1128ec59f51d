"""Every sentence about a cluster has a test, or the words "not tried on a cluster": which test, says claims.yaml.

A sentence speaks of a cluster if it has one of `WORDS`; in docs/kubeflow.md all sentences do. The words "not tried on a
cluster" stand for the paragraph that holds them; where a section's first paragraph begins with them, for the section,
and where a page's does, for the page. All other sentences need an entry:

    docs/kubeflow.md:
      Before a run:
        "words of the sentence": tests/doctor/test_doctor.py::test_name    # or several, in a list
        "words of another": null                                           # says nothing that a cluster does
      "*":
        "words of sentences in any section": null
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_links import PAGES, ROOT, prose

Entries = Mapping[str, str | list[str] | None]
CLAIMS: Mapping[str, Mapping[str, Entries]] = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text())
UNTRIED = "not tried on a cluster"
ANYWHERE = "*"
WORDS = re.compile(
    r"\b(?<!without )([Cc]lusters?|[Pp]ods?|Argo|KFP|Kubeflow|Kubernetes|kubectl|kubelet|CronJobs?|"
    r"NetworkPolic(?:y|ies)|network policy|ConfigMaps?|Secrets?|[Rr]eplicas?|Deployment|StatefulSet|namespaces?)\b"
)
ALL_OF = "docs/kubeflow.md"
"""A page of which every sentence is about a cluster."""
RELEASED = re.compile(r"^## [0-9].*", flags=re.MULTILINE | re.DOTALL)
"""Of the changelog: what earlier versions said is left as it was."""
MANIFESTS = ROOT / "deploy/kubernetes"
"""Their comments are marked once per folder."""
HELP = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "src/rushes/cli").glob("*.py"))
COMMENTED = ["deploy/schedules.yaml", *(f"pipelines/profiles/{name}.yaml" for name in ("cpu", "gpu"))]
OTHERS = sorted(
    path.relative_to(ROOT).as_posix() for folder in ("components", "deploy") for path in ROOT.glob(f"{folder}/**/*.md")
)
READ = [*PAGES, *OTHERS, *HELP, *COMMENTED]
"""Everything that users read."""

Section = tuple[str, list[str]]
"""A heading, and the paragraphs under it: each list item and each row of a table is one."""


def sections(page: str, text: str) -> list[Section]:
    if page.endswith(".py"):
        return list(_of_help(text))
    if page.endswith(".yaml"):
        return [("", [" ".join(re.findall(r"(?m)(?:^|\s)#\s(.*)", block)) for block in _blocks_of_comments(text)])]
    return list(_of_markdown(RELEASED.sub("", prose(text)) if page == "CHANGELOG.md" else prose(text)))


def _of_markdown(text: str) -> Iterator[Section]:
    heading, lines = "", list[str]()
    for line in [*text.splitlines(), "# end"]:
        if match := re.match(r"#+ (.+)$", line):
            yield heading, _paragraphs(lines)
            heading, lines = match[1], []
        else:
            lines.append(line.strip())


def _paragraphs(lines: list[str]) -> list[str]:
    found = [""]
    for line in lines:
        if not line or line.startswith("|") or re.match(r"- |\d+\. ", line):
            found.append("")
        found[-1] = f"{found[-1]} {line}".strip()
        if line.startswith("|"):
            found.append("")
    return [paragraph for paragraph in found if paragraph]


def _of_help(text: str) -> Iterator[Section]:
    """Docstrings of commands and of their flags."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            values = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Expr)]
            texts = [
                value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
            ]
            yield node.name, [" ".join(part.split()) for text in texts for part in text.split("\n\n")]


def _blocks_of_comments(text: str) -> list[str]:
    """Comments that follow each other, and each comment beside a value."""
    return re.findall(r"(?m)(?:^ *# .*\n)+|^ *[^#\s].* # .*\n", text)


def sentences(paragraph: str) -> list[str]:
    if paragraph.startswith("|"):
        return [] if set(paragraph) <= set("|- ") else [paragraph]
    return [sentence for sentence in re.split(r"(?<=[.:;])\*{0,2}\s+(?=[A-Z`*\[])", paragraph) if sentence]


def unheld(page: str, text: str, claims: Mapping[str, Entries]) -> list[str]:
    """Sentences about a cluster with neither an entry nor the words."""
    found = sections(page, text)
    if _is_untried([paragraph for _, paragraphs in found[:2] for paragraph in paragraphs]):
        return []
    return [
        f"{page}: {heading}: {sentence}"
        for heading, paragraphs in found
        if not _is_untried(paragraphs)
        for paragraph in paragraphs
        if UNTRIED not in paragraph.lower()
        for sentence in sentences(paragraph)
        if (page == ALL_OF or WORDS.search(sentence))
        and not any(phrase in sentence for phrase in {**claims.get(heading, {}), **claims.get(ANYWHERE, {})})
    ]


def _is_untried(paragraphs: list[str]) -> bool:
    """Whether the first of them begins with the words."""
    return bool(paragraphs) and paragraphs[0].lower().startswith(UNTRIED)


def stale(page: str, text: str, claims: Mapping[str, Entries]) -> list[str]:
    """Entries whose words are in no sentence of their section."""
    found = {heading: [s for p in paragraphs for s in sentences(p)] for heading, paragraphs in sections(page, text)}
    found[ANYWHERE] = [sentence for said in found.values() for sentence in said]
    return [
        f"{page}: {heading}: {phrase}"
        for heading, entries in claims.items()
        for phrase in entries
        if not any(phrase in sentence for sentence in found.get(heading, []))
    ]


@cache
def _tests_in(path: str) -> frozenset[str]:
    file = ROOT / path
    return frozenset(re.findall(r"(?m)^def (test_\w+)\(", file.read_text())) if file.is_file() else frozenset()


def named_tests(claims: Mapping[str, Entries]) -> list[str]:
    values = [value for entries in claims.values() for value in entries.values() if value is not None]
    return [name for value in values for name in ([value] if isinstance(value, str) else value)]


@pytest.mark.parametrize("page", READ)
def test_every_sentence_about_a_cluster_has_a_test_or_says_that_it_was_not_tried(page: str) -> None:
    text = (ROOT / page).read_text()
    assert unheld(page, text, CLAIMS.get(page, {})) == [], (
        'name its test in claims.yaml, or write "not tried on a cluster"'
    )
    assert stale(page, text, CLAIMS.get(page, {})) == []


def test_the_tests_that_are_named_exist() -> None:
    assert set(CLAIMS) <= set(READ)
    named = {name for claims in CLAIMS.values() for name in named_tests(claims)}
    assert [name for name in sorted(named) if name.partition("::")[2] not in _tests_in(name.partition("::")[0])] == []


def test_every_folder_of_manifests_says_that_it_was_not_tried() -> None:
    folders = {path.parent for path in MANIFESTS.rglob("*.yaml")}
    assert folders
    assert [str(folder) for folder in folders if not _says_so(folder / "kustomization.yaml")] == []


def _says_so(kustomization: Path) -> bool:
    return kustomization.is_file() and _is_untried([kustomization.read_text().removeprefix("# ")])


PAGE: Mapping[str, Any] = {
    "A section": {"asks a replica": "tests/docs/test_claims.py::test_the_tests_that_are_named_exist"}
}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("# P\n\n## A section\n\nIt asks a replica. All is well.\n", []),
        ("# P\n\n## A section\n\nIt asks a replica. Then it stops the pod.\n", ["Then it stops the pod."]),
        ("# P\n\n## A new section\n\nIt asks a replica.\n", ["It asks a replica."]),
        ("# P\n\n## N\n\nPods start, not tried on a cluster. Pods end.\n\nPods are lost.\n", ["Pods are lost."]),
        ("# P\n\n## N\n\nNot tried on a cluster.\n\nPods start.\n\n## M\n\nPods end.\n", ["Pods end."]),
        ("# P\n\nNot tried on a cluster: Pods start.\n\n## N\n\nPods end.\n", []),
        ("# P\n\n| | on a cluster |\n|---|---|\n| a | b |\n", ["| | on a cluster |"]),
        ("# P\n\n- one\n- the kubelet\n  calls\n1. two\n", ["- the kubelet calls"]),
        ("# P\n\n```sh\nkubectl get pods\n```\n", []),
    ],
)
def test_a_new_sentence_is_noticed(text: str, left: list[str]) -> None:
    assert [line.split(": ", 2)[2] for line in unheld("docs/p.md", text, PAGE)] == left


def test_a_new_sentence_of_help_or_of_a_comment_is_noticed() -> None:
    code = '@dataclass\nclass A:\n    """Starts.\n\n    In a pod.\n    """\n\n    b: int = 0\n    """Of a cluster."""\n'
    assert unheld("a.py", code, {}) == ["a.py: A: In a pod.", "a.py: A: Of a cluster."]
    comments = "# One line\n# of a cluster.\nkey: value # in a pod\n"
    assert unheld("a.yaml", comments, {}) == ["a.yaml: : One line of a cluster.", "a.yaml: : in a pod"]


def test_an_entry_that_no_sentence_has_is_stale() -> None:
    assert stale("docs/p.md", "# P\n\n## A section\n\nIt asks nobody.\n", PAGE) == [
        "docs/p.md: A section: asks a replica"
    ]
