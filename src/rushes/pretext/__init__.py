"""Pretext tasks: labels made from the footage itself.

To add one, write its module here (see `rushes.pretext.task.PretextTask` for the four parts), and end it with
`TASKS = {"my_task": MyTask}`: that is what a recipe's `pretrain.task` names. Or leave this package as it is and write a
plugin (`rushes.plugins`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rushes import plugins
from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, PretextTask, Shot
from rushes.strict import build

__all__ = ["TASKS", "ClipTuple", "PretextTask", "Shot", "make_task"]

TASKS = plugins.built_in("task")
"""Names of the tasks of this package's modules."""


def make_task(name: str, options: Mapping[str, Any]) -> PretextTask:
    """Builds a task from a recipe's `pretrain.task` and `pretrain.options`.

    Raises:
        UserError: unknown task, unknown option or a value that the task does not allow.
    """
    task = plugins.load("task", name)
    if not (isinstance(task, type) and issubclass(task, PretextTask) and dataclasses.is_dataclass(task)):
        raise UserError(f"pretrain.task: {name!r} is {task!r}; expected a dataclass derived from PretextTask")
    return build(task, options, f"pretrain.options of {name}")
