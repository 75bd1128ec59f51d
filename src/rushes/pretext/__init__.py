"""Pretext tasks: labels made from the footage itself.

`TASKS` is the list of what a recipe's `pretrain.task` may name. To add one, write its module here (see
`rushes.pretext.task.PretextTask` for the four parts) and add a line to the dict; or leave this package as it is and
write a plugin (`rushes.plugins`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rushes import plugins
from rushes.errors import UserError
from rushes.pretext.arrow_of_time import ArrowOfTime
from rushes.pretext.clip_order import ClipOrder
from rushes.pretext.o3n import O3N
from rushes.pretext.opn import Opn
from rushes.pretext.pace import Pace
from rushes.pretext.shuffle_and_learn import ShuffleAndLearn
from rushes.pretext.task import Draw, PretextTask, Shot
from rushes.strict import build

__all__ = ["NO_TASK", "TASKS", "Draw", "PretextTask", "Shot", "make_task"]

NO_TASK = "none"
"""The `pretrain.task` that trains nothing: the backbone keeps the weights that pretraining would start from."""

TASKS: dict[str, type[PretextTask]] = {
    "shuffle_and_learn": ShuffleAndLearn,
    "opn": Opn,
    "clip_order": ClipOrder,
    "pace": Pace,
    "o3n": O3N,
    "arrow_of_time": ArrowOfTime,
}


def make_task(name: str, options: Mapping[str, Any]) -> PretextTask:
    """Builds a task from a recipe's `pretrain.task` and `pretrain.options`.

    Raises:
        UserError: unknown task, unknown option or a value that the task does not allow.
    """
    task = plugins.look_up("task", name, TASKS)
    if not (dataclasses.is_dataclass(task) and issubclass(task, PretextTask)):
        raise UserError(f"pretrain.task: {name!r} is {task!r}; expected a dataclass derived from PretextTask")
    return build(task, options, f"pretrain.options of {name}")
