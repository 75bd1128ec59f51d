"""`rushes doctor`: a row a check, with what was found and what to do about it."""

from rich.text import Text

from rushes.console import console
from rushes.doctor.checks import CHECKS, Environment, Finding, examine

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(environment: Environment) -> int:
    """Looks at everything; returns 1 if something failed, else 0."""
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
