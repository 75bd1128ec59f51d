"""The pages of a comparison and of an evaluation on a phone: every figure of the main tables is within the screen."""

import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rushes.comparing.report import write_comparison
from rushes.comparing.tables import TableRow, compare
from tests.comparing.test_tables import NUMBERS, chains

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH = 390
_MEASURE = """<iframe id="page" src="{page}" width="{width}" height="800" style="border: 0"></iframe><script>
document.getElementById("page").onload = function () {{
  for (const cell of this.contentDocument.querySelectorAll("{cells}")) {{
    const box = cell.getBoundingClientRect(), line = document.createElement("p");
    line.textContent = "CELL " + box.left + " " + box.right + " " + box.height + " " + cell.textContent;
    document.body.append(line);
  }}
}}</script>"""


def boxes(page: Path, cells: str) -> list[tuple[float, float, float, str]]:
    """Left, right and height in pixels, and the text, of the cells of a page that is as wide as a phone."""
    assert CHROMIUM is not None
    outer = page.with_name("phone.html")
    outer.write_text(_MEASURE.format(page=page.name, width=WIDTH, cells=cells))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    profile = f"--user-data-dir={page.with_name('profile')}"
    command += [profile, "--virtual-time-budget=5000", "--dump-dom", outer.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"<p>CELL (\S+) (\S+) (\S+) ([^<]*)</p>", shown)
    return [(float(left), float(right), float(height), html.unescape(text)) for left, right, height, text in found]


def with_long_names() -> dict[str, Any]:
    """A comparison whose members have names as people give them."""
    names = {"good": "slow=pace-r2plus1d:pretrain.epochs=60,pretrain.batch=64", "same": "vcop-r3d"}
    rows = [
        TableRow(name="random", init="random", network="tiny_r2plus1d", baseline="random"),
        *(TableRow(name=name, init="pretext", network="tiny_r2plus1d", baseline="random") for name in names),
    ]
    result = compare(rows, [m for m in chains() if m.row != "metadata only"], numbers=NUMBERS, resamples=100)
    for row in result["rows"]:
        row["name"] = names.get(row["name"], row["name"])
    return result


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_every_figure_of_a_comparison_is_on_the_screen_of_a_phone(tmp_path: Path) -> None:
    result = with_long_names()
    write_comparison(tmp_path, result, command="rushes compare")
    found = boxes(tmp_path / "comparison.html", "table td")
    shown = [text for _, _, height, text in found if height > 0]
    figures = [interval for row in result["rows"] for interval in row["top1"].values()]
    assert len(figures) == 21
    for interval in figures:
        assert any(text.startswith(f"{100 * interval['value']:.1f} [") for text in shown)
    assert all(left >= 0 and right <= WIDTH for left, right, height, _ in found if height > 0)
