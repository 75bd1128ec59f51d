"""The doctor's check of a running Triton: releases before `OLDEST` have faults that NVIDIA has published."""

import json
import urllib.request

from packaging.version import InvalidVersion, Version

from rushes.doctor import findings
from rushes.doctor.findings import Environment, Finding
from rushes.home import home_folder
from rushes.serving.server import address, triton_status

OLDEST = "2.71.0"
"""The oldest server allowed (the image 26.07); deploy/versions.yaml says why, and `make check` compares the two."""


def check_triton(environment: Environment) -> Finding:
    """The release of the Triton at `--triton`, or of the one that runs here."""
    server = None if environment.triton else triton_status(home=home_folder())
    given = environment.triton or (address(server, "http") if server else "")
    if not given:
        return Finding(verdict="ok", found="none runs here", remedy="To check a cluster's: --triton URL.")
    url = given.rstrip("/") if "://" in given else f"http://{given.rstrip('/')}"
    try:
        version = _version(url)
    except OSError as error:
        found = f"{url} does not answer ({getattr(error, 'reason', error)})"
        return Finding(verdict="failed", found=found, remedy="Give the address of Triton's HTTP port (8000).")
    try:
        old = Version(version) < Version(OLDEST)
    except InvalidVersion:
        found = f"{url} answers, but not as Triton does"
        return Finding(verdict="failed", found=found, remedy="Give the address of Triton's HTTP port (8000).")
    if not old:
        return Finding(verdict="ok", found=f"{url}: version {version}")
    found = f"{url}: version {version}, older than {OLDEST}: its faults are published"
    if server:
        remedy = "PyPI has no newer one: it stays on loopback; to serve others, use the image (docs/serving.md)."
        return Finding(verdict="warning", found=found, remedy=remedy)
    return Finding(verdict="failed", found=found, remedy="Build and roll out the image anew: make image-triton.")


def _version(url: str) -> str:
    """What the server says of itself; "unknown" where it says nothing that Triton would."""
    request = urllib.request.Request(f"{url}/v2")  # noqa: S310 - the user's own server
    with urllib.request.urlopen(request, timeout=findings.TIMEOUT) as response:  # noqa: S310
        body: bytes = response.read(1 << 16)
    try:
        return str(json.loads(body)["version"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
