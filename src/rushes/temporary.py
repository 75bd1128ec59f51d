"""The folder of temporary files (TMPDIR), in which processes of multiprocessing also open sockets.

The path of a socket may hold 107 bytes. Where TMPDIR leaves too few of them, a loader's worker could not send what it
read, and training would wait for it for ever.
"""

import os
import tempfile

_OWN = len("/pymp-12345678/listener-12345678")
_LONGEST = 107
_OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - names in them are random


def holds_sockets() -> bool:
    """Whether sockets can be opened in the folder of temporary files."""
    return len(os.fsencode(tempfile.gettempdir())) + _OWN <= _LONGEST


def make_room_for_sockets() -> None:
    """For this process, takes another folder of temporary files where sockets cannot be opened in its own."""
    if not holds_sockets():
        tempfile.tempdir = next((folder for folder in _OTHERS if os.access(folder, os.W_OK)), tempfile.tempdir)
