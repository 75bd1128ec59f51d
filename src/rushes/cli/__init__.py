"""The command line: `rushes run` for the whole workflow, a verb for each step, servers, predictions.

Every command is a frozen dataclass: its docstring is the help, its fields are the flags. A recipe's fields are flags
too (`--pretrain.epochs 5`), with the chosen model's values as defaults. One module per group of `rushes --help`; this
package imports nothing heavy, so that the help is there at once: what a command does lies in `rushes.commands`.
"""

from rushes.cli.entry import main
from rushes.cli.groups import COMMANDS, GROUPS
from rushes.cli.parsing import parse

__all__ = ["COMMANDS", "GROUPS", "main", "parse"]
