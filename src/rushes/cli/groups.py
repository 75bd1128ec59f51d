"""The commands by group, in the order of `rushes --help`."""

from rushes.cli.before import Doctor, Plan
from rushes.cli.data import DemoVideos, FootageForget, FootageShow
from rushes.cli.kubeflow import (
    PipelineCompile,
    PipelineRun,
    PipelineSubmit,
    SchedulesApply,
    SchedulesCheck,
    SchedulesPlan,
)
from rushes.cli.pretext import PretextControl, PretextMaps, PretextShow
from rushes.cli.servers import Down, Drain, Reconcile, Status, Up
from rushes.cli.steps import Choose, Deploy, Evaluate, Export, Finetune, Pin, Pretrain, Promote, Register, Sample
from rushes.cli.store import StoreAccept, StoreAccepted
from rushes.cli.workflow import Compare, Demo, Models, Predict, Run

GROUPS: dict[str, dict[str, type]] = {
    "Whole workflow": {"run": Run, "demo": Demo, "predict": Predict, "compare": Compare, "models": Models},
    "Servers of this machine": {"up": Up, "down": Down, "status": Status, "reconcile": Reconcile, "drain": Drain},
    "Steps": {
        "pin": Pin,
        "sample": Sample,
        "pretrain": Pretrain,
        "finetune": Finetune,
        "choose": Choose,
        "export": Export,
        "evaluate": Evaluate,
        "register": Register,
        "promote": Promote,
        "deploy": Deploy,
    },
    "Pretext tasks": {"pretext show": PretextShow, "pretext control": PretextControl, "pretext maps": PretextMaps},
    "Before a run": {"doctor": Doctor, "plan": Plan},
    "On Kubeflow": {
        "pipeline compile": PipelineCompile,
        "pipeline run": PipelineRun,
        "pipeline submit": PipelineSubmit,
        "schedules plan": SchedulesPlan,
        "schedules apply": SchedulesApply,
        "schedules check": SchedulesCheck,
    },
    "Store": {"store accept": StoreAccept, "store accepted": StoreAccepted},
    "Data": {"footage show": FootageShow, "footage forget": FootageForget, "demo-videos": DemoVideos},
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
