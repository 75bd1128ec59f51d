"""A compiled pipeline's file, as it is submitted: its text with the images' tags filled in, and its digest."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rushes.errors import UserError
from rushes.kubeflow.policy import movable_images
from rushes.orchestration.image import with_tag, yaml_documents


@dataclass(frozen=True, kw_only=True)
class Input:
    """A parameter of a pipeline."""

    kind: str
    """KFP's name for its type, such as NUMBER_INTEGER."""
    required: bool


@dataclass(frozen=True, kw_only=True)
class PipelineTask:
    """A task that runs a pod."""

    shown: str
    """Its name for people."""
    loop: str
    """Name of the loop that it is in; empty outside of loops."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A compiled pipeline as a server gets it; with the images' tags filled in, its digest covers the code too."""

    path: Path
    """File that it was read from."""
    text: str
    digest: str
    """sha256:<64 hex characters> of `text`: the file's own unless it has the placeholder for the tag."""
    name: str
    inputs: Mapping[str, Input]
    tasks: Mapping[str, PipelineTask]
    """By their names in the file."""

    @property
    def version(self) -> str:
        """Name of its version on a server."""
        return f"{self.name}-{self.digest.removeprefix('sha256:')[:16]}"

    @classmethod
    def read(cls, path: Path) -> "Pipeline":
        """Reads a compiled pipeline.

        Raises:
            UserError: the file cannot be read, is not a compiled pipeline, or names an image that can be moved.
        """
        try:
            text = with_tag(path.read_bytes().decode())
            spec = yaml_documents(text)[0]
            found = spec["root"].get("inputDefinitions", {}).get("parameters", {})
            inputs = {
                name: Input(kind=entry["parameterType"], required=not entry.get("isOptional", False))
                for name, entry in found.items()
            }
            tasks = dict(_tasks(spec, "root", ""))
            name, movable = str(spec["pipelineInfo"]["name"]), movable_images(spec)
        except OSError as error:
            raise UserError(
                f"pipeline: {str(path)!r} cannot be read ({error.strerror}): give a compiled one"
            ) from error
        except (UnicodeDecodeError, yaml.YAMLError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"pipeline: {str(path)!r} is no compiled pipeline: `rushes pipeline compile` writes one"
            ) from error
        if movable:
            raise UserError(f"pipeline: {str(path)!r}: image {movable[0]!r} can be moved: name it NAME@sha256:...")
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        return cls(path=path, text=text, digest=digest, name=name, inputs=inputs, tasks=tasks)


def _tasks(spec: Mapping[str, Any], component: str, loop: str) -> Iterator[tuple[str, PipelineTask]]:
    """The tasks of a component and of those inside of it."""
    described = spec["root"] if component == "root" else spec["components"][component]
    for name, task in described.get("dag", {}).get("tasks", {}).items():
        shown, inner = str(task["taskInfo"]["name"]), str(task["componentRef"]["name"])
        if "dag" in spec["components"][inner]:
            yield from _tasks(spec, inner, shown if "parameterIterator" in task else loop)
        else:
            yield name, PipelineTask(shown=shown, loop=loop)
