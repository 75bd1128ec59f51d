"""The parameters that a schedule gives its pipeline, checked against those that the pipeline takes."""

from collections.abc import Mapping
from dataclasses import fields

from rushes.comparing.members import Member, common_sample, models_of, parse_member
from rushes.config import Recipe
from rushes.errors import UserError
from rushes.footage.reference import DataReference, check_absolute
from rushes.kubeflow.compiled import Pipeline
from rushes.recipes import parse_recipe
from rushes.serving.repository import check_endpoint
from rushes.strict import Json, build, to_record

_WEIGHTS = "a whole path, of weights or of an earlier run's pointer"
_KINDS: Mapping[str, type] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


def arguments_of(
    parameters: Mapping[str, Json], data: DataReference, pipeline: Pipeline, where: str
) -> dict[str, Json]:
    """All arguments of a schedule's runs: its data reference and its parameters.

    Args:
        parameters: as the schedule's file gives them.
        data: checked already.
        pipeline: what is run.
        where: begins the message of an error.

    Raises:
        UserError: a parameter is missing, unknown, or not allowed.
    """
    arguments: dict[str, Json] = {}
    for f in fields(DataReference):
        value = getattr(data, f.name)
        if f.name in pipeline.inputs:
            arguments[f.name] = value
        elif value != f.default:
            raise UserError(f"{where}: data.{f.name}: {value!r}, but the pipeline takes no such thing: leave it out")
    own = [name for name in pipeline.inputs if name not in arguments]
    for name, value in parameters.items():
        if name not in own:
            hint = "belongs under data" if name in arguments else f"is unknown; known: {', '.join(own)}"
            raise UserError(f"{where}: parameters: {name!r} {hint}")
        arguments[name] = _argument(name, value, pipeline.inputs[name].kind, f"{where}: parameters")
    if missing := [name for name in own if pipeline.inputs[name].required and name not in arguments]:
        raise UserError(f"{where}: parameters: {missing[0]!r} is missing: the pipeline needs it")
    return arguments


def _argument(name: str, value: Json, kind: str, where: str) -> Json:
    if name == "models":
        return _models(value, f"{where}: models")
    argument: Json = build(_KINDS[kind], value, f"{where}: {name}")
    if name == "partitions" and argument < 1:
        raise UserError(f"{where}: partitions: {argument!r} is not allowed; 1 or more")
    if name == "endpoint":
        try:
            check_endpoint(argument)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return argument


def _models(value: Json, where: str) -> Json:
    from rushes.comparing.initialisations import initialisations_of

    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {value!r} is not a list of models; such as [pace-r2plus1d]")
    try:
        members = [_member(item) for item in value]
        models = models_of(members)
        # Tasks and backbones of plugins are not known here: their files are on the cluster.
        if plain := [member for member in members if not member.recipe.plugins]:
            initialisations_of(plain, common_sample(members))  # task, network and geometry go together
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return [to_record(recipe) for recipe in models]


def _member(item: Json) -> Member:
    if not isinstance(item, str):
        recipe = parse_recipe(item)
        _check_files(recipe)
        return Member(name=recipe.name, recipe=recipe)
    # Checked before `parse_member`, which would resolve a relative path against the working directory.
    overrides = dict(override.partition("=")[::2] for override in item.partition(":")[2].split(","))
    check_absolute(overrides.get("pretrain.init", ""), "pretrain.init", allowed=_WEIGHTS)
    member = parse_member(item, size="full")
    _check_files(member.recipe)
    return member


def _check_files(recipe: Recipe) -> None:
    check_absolute(recipe.pretrain.init, "pretrain.init", allowed=_WEIGHTS)
    for file in recipe.plugins:
        check_absolute(file, "plugins")
