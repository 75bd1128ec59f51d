"""The console script: parses, executes, and turns deliberate errors into one line and an exit status."""

import os
import signal
import sys
from collections.abc import Sequence

from rushes import __version__, extras
from rushes.cli.groups import GROUPS
from rushes.cli.parsing import parse
from rushes.errors import RushesError, UserError, disk_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses and executes; deliberate errors become one line on standard error and an exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait must not spin: beside loader workers on few cores that costs up to half the speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # SIGTERM unwinds like Ctrl-C, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            return _overview()
        if arguments[0] == "--version":
            sys.stdout.write(f"rushes {__version__}\n")
            return 0
        return parse(arguments).execute()
    except KeyboardInterrupt as error:
        said = str(error) or "interrupted: what is finished is kept; the same command continues from there"
        return _complain(said, 130)
    except BrokenPipeError:
        return 0
    except (RushesError, ImportError) as error:
        if message := extras.remedy(error):
            return _complain(message, UserError.exit_code)
        if isinstance(error, ImportError):
            raise
        return _complain(str(error), error.exit_code)
    except OSError as error:
        message = disk_error(error)
        if message is None:
            raise
        return _complain(message, 2)


def _overview() -> int:
    lines = ["usage: rushes COMMAND ...", "", "From raw, unlabelled video to a served action-recognition model.", ""]
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<18}{(command.__doc__ or '').splitlines()[0]}" for name, command in commands.items()]
        lines.append("")
    lines.append("`rushes COMMAND --help` shows its flags and an example. Begin with `rushes demo`, or")
    lines.append("`rushes run pace-r2plus1d --size cpu --videos YOUR_FOLDER`.")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _complain(message: str, status: int) -> int:
    from rushes.console import errors

    errors.print(f"[bold red]rushes:[/] {_escape(message)}")
    return status


def _escape(message: str) -> str:
    from rich.markup import escape

    return escape(message)
