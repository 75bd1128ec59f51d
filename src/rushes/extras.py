"""Which extra of the package brings a module: `pip install rushes` alone has what `rushes footage show` needs.

The command line turns the failed import of such a module into one line that names the extra.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from rushes.errors import UserError

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "safetensors", "scipy", "sklearn", "matplotlib"),
    "workflow": ("kfp", "kfp_server_api", "kubernetes", "urllib3", "mlflow", "starlette", "dvc", "docker", "psutil"),
    "serve": ("onnx", "onnxruntime", "onnxscript", "tritonclient", "google", "psutil"),
    "s3": ("s3fs",),
}
"""Extra to the modules that it brings and that this package imports."""
WHOLE = ("train", "workflow", "serve")
"""The extras that the whole workflow needs."""


def remedy(error: BaseException) -> str | None:
    """What is missing and how to install it, where the error comes from an import that an extra would satisfy."""
    for module in _missing(error):
        for extra, modules in EXTRAS.items():
            if module in modules:
                return _message(module, extra)
    return None


def installation(*extras: str) -> str | None:
    """The command that installs these extras where a module of theirs is missing; None where all are there."""
    return _command(*extras) if _absent(extras) else None


def require(*extras: str) -> None:
    """Checks that the modules of these extras are installed, importing none.

    For commands whose steps run in processes of their own: they fail at once, and not after an hour of sampling.

    Raises:
        UserError: one is missing; the message names all of these extras.
    """
    absent = _absent(extras)
    if absent is not None:
        raise UserError(_message(absent, *extras))


def _missing(error: BaseException | None) -> Iterator[str]:
    """The modules that an import did not find; libraries such as fsspec raise an error of their own from that one."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            yield error.name.partition(".")[0]
        error = error.__cause__


def _absent(extras: Sequence[str]) -> str | None:
    """The first module of these extras that cannot be found."""
    return next((module for extra in extras for module in EXTRAS[extra] if find_spec(module) is None), None)


def _command(*extras: str) -> str:
    return f"pip install 'rushes[{','.join(extras)}]'"


def _message(module: str, *extras: str) -> str:
    return f"{module} is not installed: {_command(*extras)}"
