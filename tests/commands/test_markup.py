"""Names that people give hold square brackets, which rich would take for its markup: they are shown as they are."""

from pathlib import Path

import pytest

from rushes.commands.compare import _drawn
from rushes.commands.predict import show
from rushes.comparing.report import Table
from rushes.console import console
from rushes.serving.prediction import Prediction

NAME = "walk[/x] [bold]"


def test_an_answer_shows_file_and_label_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Prediction(
        labels=(NAME, "run"),
        probabilities=(0.75, 0.25),
        embedding=(),
        version=1,
        onnx_sha256="0",
        request_id="r",
        served_by="triton",
    )
    show(Path("a[bold].mp4"), answer, top=2, as_json=False)
    shown = capsys.readouterr().out
    assert NAME in shown and "a[bold].mp4" in shown


def test_a_comparison_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.print(_drawn(Table(title=NAME, head=["model", "[i]"], rows=[[NAME, "46.4 [42.4, 50.2]"]])))
    shown = capsys.readouterr().out
    assert shown.count(NAME) == 2 and "[i]" in shown and "46.4 [42.4, 50.2]" in shown
