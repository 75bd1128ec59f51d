"""`rushes doctor`: one line per check, with its finding and a remedy."""

from rich.text import Text

from rushes.console import console
from rushes.doctor.checks import CHECKS
from rushes.doctor.findings import Environment, Finding, examine

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(environment: Environment) -> int:
    """Runs all checks; returns 1 if one failed, else 0."""
    findings = []
    for name, check in CHECKS.items():
        with console.status(f"{name} ..."):
            finding = examine(check, environment)
        findings.append(finding)
        _show(name, finding)
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in _STYLES}
    console.print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    return 1 if counts["failed"] else 0


def _show(name: str, finding: Finding) -> None:
    line = Text(f"{finding.verdict:<9}", style=_STYLES[finding.verdict])
    console.print(line.append(f"{name:<16}{finding.found}", style="default"), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"{'':<25}{finding.remedy}", style="dim"), soft_wrap=True)
