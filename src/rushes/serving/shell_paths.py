"""Folders that a local Triton can work in: it starts its Python backends through a shell, without quotes.

Of a folder with a space or a quote in its name Triton answers as live, and then hangs at the first model; its backends
read paths as ASCII.
"""

import re
from pathlib import Path

from rushes.errors import UserError
from rushes.serving.environment import OFF, environment_folder

_UNQUOTED = re.compile(r"[A-Za-z0-9._/+=@,:~-]*")


def check_triton_paths(home: Path) -> None:
    """Checks that Triton can be started in a home and by its own environment.

    Raises:
        UserError: names the folder, the characters, and what to set.
    """
    for variable, folder in (("RUSHES_HOME", home.resolve()), ("XDG_CACHE_HOME", environment_folder())):
        odd = dict.fromkeys(character for character in str(folder) if not _UNQUOTED.fullmatch(character))
        if odd:
            raise UserError(
                f"triton: the folder {str(folder)!r} holds {', '.join(map(repr, odd))}, and Triton hands paths to a "
                f"shell without quotes: set {variable} to a folder named with plain letters, digits and . _ - only, or "
                f"{OFF}=1 to answer in process"
            )
