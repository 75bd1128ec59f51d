"""The ledger: one decision per number; the second of two at once must be made again."""

import json
import multiprocessing
import uuid
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from rushes.errors import UserError
from rushes.ledger import Champion, Ledger, LedgerEntry, endpoints
from rushes.store import Store


def champion(version: int) -> Champion:
    return Champion(version=version, bundle=f"export/{version}", onnx_sha256=f"{version:064x}")


def entry(number: int, *, version: int = 1, promoted: bool = True, endpoint: str = "e") -> LedgerEntry:
    return LedgerEntry(
        number=number,
        endpoint=endpoint,
        decision="promoted" if promoted else "refused",
        challenger=champion(version),
        champion=champion(version) if promoted else None,
        reason="shown: äöü",
        time="2026-11-30T10:00:00+00:00",
        report={"rulings": [{"rule": "parity", "p": 0.25}]},
    )


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def test_entries_come_back_in_order(store: Store) -> None:
    ledger = Ledger(store, "e")
    assert ledger.last() is None
    assert ledger.entries() == []
    written = [entry(number, version=number, promoted=number % 2 == 0) for number in range(1, 13)]
    for one in written:
        assert ledger.append(one)
        assert ledger.last() == one
    assert ledger.entries() == written


def test_endpoints_do_not_see_each_other(store: Store) -> None:
    assert endpoints(store) == []
    Ledger(store, "a").append(entry(1, endpoint="a"))
    Ledger(store, "b").append(entry(1, endpoint="b", version=2))
    assert endpoints(store) == ["a", "b"]
    first = Ledger(store, "a").last()
    assert first is not None
    assert first.challenger.version == 1


def test_of_two_decisions_on_one_champion_the_second_is_refused(store: Store) -> None:
    ledger = Ledger(store, "e")
    assert ledger.append(entry(1, version=1))
    assert not ledger.append(entry(1, version=2))
    assert ledger.last() == ledger.entries()[0]
    assert ledger.entries()[0].challenger.version == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"not a decision \(Expecting property name"),
        ("[]", "not a decision"),
        ('"text"', "not a decision"),
        ("{}", r"not a decision \('champion'\)"),
        pytest.param("[" * 10_000, "not a decision", id="nested"),
        ({"challenger": {"version": 1}}, "not a decision .*bundle"),
        ({"champion": {"version": 1, "bundle": "b", "sha256": "0"}}, "not a decision .*sha256"),
        ({"rolled_back": True}, "not a decision .*rolled_back"),
        ({"decision": "rolled back"}, "decision: 'rolled back' is not allowed; promoted or refused"),
        ({"number": 1}, "number 1 in the record; expected 2: correct the record"),
    ],
)
def test_a_damaged_record_is_named(store: Store, text: str | dict[str, Any], words: str) -> None:
    ledger = Ledger(store, "e")
    assert ledger.append(entry(1))
    record = text if isinstance(text, str) else json.dumps(json.loads(entry(2).to_json()) | text)
    store.write("ledger/e/000002.json", record.encode())
    for read in (ledger.last, ledger.entries):
        with pytest.raises(UserError, match=rf"^ledger/e/000002\.json: {words}"):
            read()


def test_other_files_beside_the_records_are_passed_over(store: Store) -> None:
    ledger = Ledger(store, "e")
    assert ledger.append(entry(1))
    for name in ("entry.json", "000001.json.bak", "1000.json"):
        store.write(f"ledger/e/{name}", b"notes")
    assert ledger.last() == entry(1) and ledger.entries() == [entry(1)]


def _append(url: str, process: int, barrier: Barrier) -> None:
    ledger = Ledger(Store(url), "e")
    barrier.wait()
    for turn in range(10):
        while True:
            last = ledger.last()
            if ledger.append(entry((last.number if last else 0) + 1, version=100 * process + turn)):
                break


def test_racing_writers_lose_no_decision(tmp_path: Path) -> None:
    barrier = multiprocessing.Barrier(4)
    processes = [multiprocessing.Process(target=_append, args=(str(tmp_path), n, barrier)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    entries = Ledger(Store(str(tmp_path)), "e").entries()
    assert [one.number for one in entries] == list(range(1, 41))
    assert {one.challenger.version for one in entries} == {100 * p + t for p in range(4) for t in range(10)}
