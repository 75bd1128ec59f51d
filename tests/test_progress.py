"""Progress events: whole lines from several processes, read as they come."""

import json
import multiprocessing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rushes.progress import EventLog, NullProgress, first_error, read_events


def _emit_many(path: Path, number: int) -> None:
    log = EventLog(path, step=f"s{number}")
    for count in range(200):
        log.emit("say", message="x" * 300, count=count)


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    processes = [multiprocessing.Process(target=_emit_many, args=(path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    events, offset = read_events(path)
    assert offset == path.stat().st_size
    for number in range(4):
        assert [e["count"] for e in events if e["step"] == f"s{number}"] == list(range(200))


@given(
    events=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5)), max_size=6),
    cuts=st.lists(st.integers(0, 400)),
)
def test_reading_in_pieces_gives_every_event_once(
    tmp_path_factory: object, events: list[dict[str, str]], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("progress") / "p.jsonl"  # type: ignore[attr-defined]
    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    seen, offset = [], 0
    for cut in [*sorted(cuts), len(data)]:
        path.write_bytes(data[:cut])
        found, offset = read_events(path, offset=offset)
        seen += found
    assert seen == events


def test_a_line_cut_short_by_a_full_disk_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_bytes(b'{"event": "say"}\n{"event": "ba{"event": "error"}\n{"event": "end"}\n')
    events, _ = read_events(path)
    assert [event["event"] for event in events] == ["say", "end"]


def test_a_missing_file_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none", offset=0) == ([], 0)


def test_a_bar_reports_its_end_and_seldom_otherwise(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "p.jsonl", step="pretrain")
    bar = log.bar("train", total=5000, unit="steps")
    for _ in range(5000):
        bar.advance(1, loss=1.23456789)
    events, _ = read_events(log.path)
    assert len(events) < 1000
    assert events[0]["done"] == 0
    assert events[-1] | {"time": 0} == {
        "time": 0,
        "event": "bar",
        "step": "pretrain",
        "label": "train",
        "done": 5000,
        "total": 5000,
        "unit": "steps",
        "stats": {"loss": 1.235},
    }


def test_the_first_error_of_a_run_is_found_among_its_events(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    assert first_error(path) is None
    EventLog(path, step="pin").emit("end")
    assert first_error(path) is None
    for step in ("sample", "pretrain"):
        EventLog(path, step=step).emit("error", message=f"{step} failed", exit_code=2)
    assert (first_error(path) or {})["message"] == "sample failed"


def test_nobody_listening_is_no_error() -> None:
    NullProgress().bar("x", total=1, unit="y").advance(1, loss=2.0)
    NullProgress().say("x")
