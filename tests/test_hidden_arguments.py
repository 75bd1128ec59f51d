"""Arguments that no list of processes shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushes.hidden_arguments import popen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how Linux lays out a process")

SHOW = "import json, sys, time; print(json.dumps(sys.argv[1:]), flush=True); time.sleep(60)"
"""A program that prints its arguments and stays."""
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


def shown(pid: int) -> str:
    """What any list of processes can show of it: `ps` reads these."""
    files = [Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ", "comm", "stat", "status")]
    return "".join(file.read_bytes().decode(errors="replace") for file in files)


@settings(max_examples=25)
@given(secrets=st.lists(TEXT, min_size=1, max_size=3), words=st.lists(TEXT, max_size=3))
def test_the_program_gets_the_secrets_and_the_list_of_processes_its_words(
    tmp_path_factory: pytest.TempPathFactory, secrets: list[str], words: list[str]
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"
    marked = {f"hidden-{number}": f"secret-{number}-{text}" for number, text in enumerate(secrets)}
    argv = [sys.executable, "-c", SHOW, *words, *marked, *words]
    with log.open("wb") as out:
        child = popen(argv, hidden=marked, log=out)
    try:
        seen = [shown(child.pid)]
        while not log.read_bytes().endswith(b"\n"):
            seen.append(shown(child.pid))
        assert json.loads(log.read_text()) == [*words, *marked.values(), *words]
        listed = Path(f"/proc/{child.pid}/cmdline").read_bytes().decode()
        assert listed.removesuffix("\0").split("\0") == argv and os.getpgid(child.pid) == child.pid
        seen.append(shown(child.pid))
        assert not any("secret-" in text for text in seen)
    finally:
        child.kill()
        child.wait()


NO_PTRACE = """
import ctypes, struct
libc = ctypes.CDLL(None)
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 101), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(program)) == 0
"""
"""A process that may not call ptrace, number 101 of x86-64, from here on (seccomp), as in some containers."""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of a system call")
def test_where_the_system_forbids_it_nothing_is_started_and_it_is_said(tmp_path: Path) -> None:
    code = NO_PTRACE + (
        "import pathlib, psutil, sys; from rushes.hidden_arguments import CannotHideError, popen\n"
        "try: popen([sys.executable, '-c', 'pass', 'shown'], hidden={'shown': 'secret'}, log=open(sys.argv[1], 'wb'))\n"
        "except CannotHideError as error: print(error, psutil.Process().children())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], capture_output=True, text=True)
    assert done.stdout.startswith("ptrace is refused") and done.stdout.endswith(" []\n"), done


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, pytest.raises(FileNotFoundError):
        popen([str(tmp_path / "none"), "shown"], hidden={"shown": "secret"}, log=log)
