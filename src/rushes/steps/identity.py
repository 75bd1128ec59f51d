"""What a step's work is known by: its config, the content of its inputs, and its code.

- Inputs are known by their content (`Manifest.content`), not by the run that made them: where a step ran again and made
  the bytes that it had made before, the steps after it are answered from the store.
- Code is the code of the modules that the step imports (`rushes.digests`) and the versions of the libraries that its
  bytes depend on (`LIBRARIES`). The task and the network of a recipe are part of the config (`rushes.plugins`).
- A person may say that outputs of earlier code stand (`rushes.acceptance`).

`sample` depends on PyAV and the libraries of its FFmpeg: another one may decode, scale or encode to other bytes. What
follows depends on PyAV only through those bytes, since decoding H.264 is exact by the standard (`pretrain.short_side`,
which scales as it reads, trusts that FFmpeg's scaler does not change). Training and all use of a network depend on
torch's minor version: another may sum in another order, and training amplifies the last digit. Its patch releases are
taken to compute the same.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from rushes.acceptance import Acceptance, acceptances
from rushes.digests import code_digest, step_digest
from rushes.store import Manifest, Store

LIBRARIES = {"sample": "av", "pretrain": "torch", "finetune": "torch"} | dict.fromkeys(
    ("measure", "evaluate", "export"), "torch"
)
"""The cached steps, and the library that each step's bytes depend on."""

RETIRED = [("motion", "encoder"), ("contrast", 0.0), ("draws_per_window", 1)]
"""Fields of version 0.1's recipes that are gone, with the value by which they meant what is done today."""


def libraries(step: str) -> dict[str, str]:
    """Versions that the step's bytes depend on: PyAV's with FFmpeg's libraries, or torch's up to the minor."""
    if LIBRARIES[step] == "torch":
        return {"torch": ".".join(metadata.version("torch").split(".")[:2])}
    import av

    return {"av": av.__version__} | {
        name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())
    }


def step_code(step: str) -> str:
    """Digest (16 hex characters) of the step's code and of the versions that its bytes depend on."""
    return _short([code_digest(f"rushes.steps.{step}"), libraries(step)])


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What one piece of work is known by."""

    step: str
    config: Mapping[str, Any]
    """Plain data that the result depends on."""
    inputs: Mapping[str, str]
    """Name of each input to its `Manifest.content`."""
    code: str

    @property
    def digest(self) -> str:
        """16 hex characters."""
        return step_digest(step=self.step, config=self.config, inputs=self.inputs, code=self.code)

    @property
    def ref(self) -> str:
        """Name of the output."""
        return f"{self.step}/{self.digest}"


def identify(step: str, *, config: Mapping[str, Any], inputs: Mapping[str, Manifest]) -> Identity:
    """The identity of work that this code would do; nothing is run."""
    contents = {name: manifest.content for name, manifest in inputs.items()}
    return Identity(step=step, config=config, inputs=contents, code=step_code(step))


def find_output(store: Store, work: Identity, *, inputs: Mapping[str, Manifest]) -> Manifest | None:
    """The finished output of this work, or None.

    Where earlier code made it and a person accepted that, it is published under this work's digest, with who accepted
    it and why.
    """
    found = store.find(work.ref)
    if found is not None:
        return found
    for earlier, acceptance in earlier_identities(work, acceptances(store, work.step)):
        made = store.find(earlier.ref) or _made_by_0_1(store, earlier)
        if made is not None:
            accepted = replace(
                made,
                digest=work.digest,
                config=work.config,
                code=work.code,
                inputs={name: manifest.ref for name, manifest in inputs.items()},
                accepted=acceptance.about(made),
            )
            store.publish(accepted)
            return accepted
    return None


def earlier_identities(work: Identity, accepted: list[Acceptance]) -> Iterator[tuple[Identity, Acceptance]]:
    """The same work by earlier code whose outputs stand, and the acceptance that says so; the nearest code first."""
    pending, seen = [work], {work.digest}
    while pending:
        known = pending.pop(0)
        for acceptance in accepted:
            if acceptance.code != known.code:
                continue
            for definitions in _earlier_definitions(known.config.get("definitions", {}), acceptance):
                config = {**known.config, "definitions": definitions} if definitions else known.config
                earlier = replace(known, code=acceptance.earlier, config=config)
                if earlier.digest not in seen:
                    seen.add(earlier.digest)
                    pending.append(earlier)
                    yield earlier, acceptance


def _made_by_0_1(store: Store, work: Identity) -> Manifest | None:
    """This work's output by version 0.1, which knew inputs by ref, had further fields, and no definitions."""
    config = {name: value for name, value in work.config.items() if name != "definitions"}
    for name in store.names(f"steps/{work.step}"):
        made = store.find(f"{work.step}/{name.removesuffix('.json')}")
        if made is None or made.code != work.code or made.inputs.keys() != work.inputs.keys():
            continue
        inputs = {name: store.find(ref) for name, ref in made.inputs.items()}
        same = all(source and source.content == work.inputs[name] for name, source in inputs.items())
        if same and {k: v for k, v in made.config.items() if (k, v) not in RETIRED} == config:
            return made
    return None


def _earlier_definitions(definitions: Mapping[str, Any], acceptance: Acceptance) -> Iterator[dict[str, Any]]:
    """The definitions of a config with each code as it is, or as it was when accepted outputs were made."""
    options = [
        [{"name": used["name"], "code": code} for code in (used["code"], *acceptance.earlier_codes(kind, used))]
        for kind, used in definitions.items()
    ]
    for choice in itertools.product(*options):
        yield dict(zip(definitions, choice, strict=True))


def _short(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
