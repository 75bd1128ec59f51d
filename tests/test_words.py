"""Numbers, sizes and times as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.words import clock, counted, duration, enumerated, file_size, printable


def test_numbers_agree_with_their_nouns() -> None:
    assert (counted(1, "file"), counted(0, "file"), counted(1200, "file")) == ("1 file", "0 files", "1,200 files")


def test_a_long_list_ends_in_how_many_more() -> None:
    counts = [("walk", 1200), ("run", 12), ("jump", 1)]
    assert enumerated(counts, 3) == "walk (1,200), run (12), jump (1)"
    assert enumerated(counts, 1) == "walk (1,200) and 2 more"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (12.34, "12.3 s"), (60, "1 min"), (3599, "60 min"), (4_442_400, "1,234 h")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_positions_have_hours_where_there_are_any() -> None:
    shown = [clock(seconds) for seconds in (0, 61.9, 3599.9, 3600, 36_061)]
    assert shown == ["0:00", "1:01", "59:59", "1:00:00", "10:01:01"]


def test_sizes_are_decimal() -> None:
    assert (file_size(30_300_000), file_size(2_000_000_000)) == ("30.3 MB", "2.0 GB")


@given(st.text())
def test_what_is_printable_is_one_line_without_control_characters(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
