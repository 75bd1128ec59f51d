"""`rushes store accept` and `rushes store accepted`: a person's word that outputs of earlier code stand."""

import getpass
from collections import defaultdict
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from rushes import plugins
from rushes.acceptance import Acceptance, CodeChange, acceptances, add_acceptance
from rushes.console import console
from rushes.errors import UserError
from rushes.home import open_store
from rushes.ledger import now
from rushes.steps.identity import LIBRARIES, step_code
from rushes.store import Manifest, Store
from rushes.words import counted


def accept(step: str, *, earlier: str, reason: str, by: str) -> int:
    """Records that a step's outputs by the code `earlier`, or by that of the output `earlier`, stand for today's code.

    Raises:
        UserError: no such step, no output of that code, no reason, nothing has changed since, or the outputs were made
            with several codes of one task or backbone.
    """
    if step not in LIBRARIES:
        raise UserError(f"step: {step!r} is not a step that is answered from the store; one of {', '.join(LIBRARIES)}")
    if not reason.strip():
        raise UserError("reason: empty is not allowed: say why the outputs of that code stand, for all who read on")
    store = open_store()
    outputs = _outputs(store, step, earlier)
    code, changes, made_by = step_code(step), _changes(outputs), outputs[0].code
    if made_by == code and not changes:
        raise UserError(f"from: {earlier!r} is today's code of {step}: its outputs are found without a word")
    acceptance = Acceptance(
        step=step,
        earlier=made_by,
        code=code,
        definitions=changes,
        reason=reason.strip(),
        by=by or _user(),
        time=now(),
    )
    add_acceptance(store, acceptance)
    also = "".join(f", with {change}" for change in changes)
    console.print(
        f"accepted: outputs of {step} by code {made_by} ({counted(len(outputs), 'output')} in the store) for today's "
        f"code {code}{also}; a run that asks for one publishes it under today's code",
        markup=False,
    )
    return 0


def accepted() -> int:
    """Prints one row per acceptance."""
    store = open_store()
    columns = ("step", "outputs by code", "stand for code", "with", "reason", "by", "at")
    table = Table(*columns, box=None, header_style="bold")
    for step in LIBRARIES:
        for found in acceptances(store, step):
            changes = "\n".join(map(str, found.definitions))
            row = (step, found.earlier, found.code, changes, found.reason, found.by, found.time)
            table.add_row(*map(escape, row))
    console.print(table if table.row_count else f"store {store.url}: nothing was accepted")
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as error:  # a user id without an entry, as in a container
        raise UserError("by: the user has no name on this machine: give --by NAME") from error


def _outputs(store: Store, step: str, earlier: str) -> list[Manifest]:
    """The outputs by a code, or the one of a ref; all of them with one code of each task and backbone."""
    made = _outputs_by_code(store, step)
    if earlier.startswith(f"{step}/"):
        named = [manifest for outputs in made.values() for manifest in outputs if manifest.ref == earlier]
        if not named:
            raise UserError(f"from: {earlier} is not in {store.url}; {_codes(store, made)}")
        return named
    if earlier not in made:
        raise UserError(f"from: no output of {step} in {store.url} was made by code {earlier!r}; {_codes(store, made)}")
    outputs = made[earlier]
    first: dict[tuple[str, str], tuple[str, Manifest]] = {}
    for manifest in outputs:
        for kind, used in manifest.config.get("definitions", {}).items():
            code, other = first.setdefault((kind, used["name"]), (used["code"], manifest))
            if code != used["code"]:
                raise UserError(
                    f"from: {earlier!r} made outputs with several codes of {kind} {used['name']}, such as {code} "
                    f"({other.ref}) and {used['code']} ({manifest.ref}): name the output that stands, --from REF"
                )
    return outputs


def _outputs_by_code(store: Store, step: str) -> dict[str, list[Manifest]]:
    made = defaultdict(list)
    for name in store.names(f"steps/{step}"):
        manifest = store.find(f"{step}/{name.removesuffix('.json')}")
        if manifest is not None:
            made[manifest.code].append(manifest)
    return dict(made)


def _codes(store: Store, made: dict[str, list[Manifest]]) -> str:
    """The codes that there are, with the number of their outputs and the date of the last one."""
    if not made:
        return "there is none of any code"
    listed = [
        f"{code} ({counted(len(outputs), 'output')}, last {_last(store, outputs)})" for code, outputs in made.items()
    ]
    return f"the codes are {', '.join(sorted(listed))}"


def _last(store: Store, outputs: Iterable[Manifest]) -> str:
    return max(f"{store.modified(manifest.uri):%Y-%m-%d}" for manifest in outputs)


def _changes(outputs: Iterable[Manifest]) -> tuple[CodeChange, ...]:
    """Tasks and backbones of these outputs whose code is another today."""
    used = {
        (kind, definition["name"], definition["code"])
        for manifest in outputs
        for kind, definition in manifest.config.get("definitions", {}).items()
    }
    return tuple(
        CodeChange(kind=kind, name=name, earlier=code, code=today)
        for kind, name, code in sorted(used)
        if (today := plugins.code_of(kind, name)) not in (None, code)
    )
