"""The doctor's checks of servers: do MLflow and Kubeflow Pipelines answer, in versions that fit the clients here?"""

import json
import os
import urllib.error
import urllib.request
from importlib import metadata

from packaging.version import InvalidVersion, Version

from rushes.doctor import findings
from rushes.doctor.findings import Environment, Finding
from rushes.home import home_folder
from rushes.processes import status
from rushes.tracking.server import NAME as MLFLOW
from rushes.tracking.server import tracking_url

_IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


def check_mlflow(environment: Environment) -> Finding:
    """MLflow's answer, and its major version against the client's."""
    configured = os.environ.get("MLFLOW_TRACKING_URI")
    home = home_folder()
    if not configured and status(name=MLFLOW, home=home) is None:
        found = "not configured, and none runs here"
        return Finding(verdict="ok", found=found, remedy="`rushes up` starts one; teams set MLFLOW_TRACKING_URI.")
    url = tracking_url(home)
    try:
        version = _get(f"{url}/version").decode().strip()
    except OSError as error:
        return _silent(url, error, remedy="Start it, or correct MLFLOW_TRACKING_URI.")
    ours = metadata.version("mlflow")
    remedy = f"Bring server and client ({ours}) to the same major version."
    return _matched(url, version, ours=ours, parts=1, remedy=remedy)


def check_kubeflow(environment: Environment) -> Finding:
    """The answer of Kubeflow Pipelines, and its minor version against the SDK's."""
    given = environment.host or environment.cluster.host or os.environ.get("KF_PIPELINES_ENDPOINT", "")
    host = given or (_IN_CLUSTER if environment.in_pod else "")
    if not host:
        remedy = "To run on a cluster: --host URL, the profile's host, or KF_PIPELINES_ENDPOINT."
        return Finding(verdict="ok", found="not configured", remedy=remedy)
    url = host.rstrip("/") if "://" in host else f"http://{host.rstrip('/')}"
    try:
        answer = json.loads(_get(f"{url}/apis/v2beta1/healthz"))
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            return _silent(url, error, remedy="Give the URL of Kubeflow Pipelines' API, as --host or in the profile.")
        found = f"{url} wants a login ({error.code})"
        return Finding(verdict="warning", found=found, remedy="Run this inside the cluster, or use a port-forward.")
    except ValueError:
        remedy = "Give the URL of the API itself: a login page or another server answers here."
        return Finding(verdict="failed", found=f"{url} answers, but not as Kubeflow Pipelines does", remedy=remedy)
    except OSError as error:
        return _silent(url, error, remedy="Start it, or correct --host, the profile's host or KF_PIPELINES_ENDPOINT.")
    ours = metadata.version("kfp")
    remedy = f"What kfp {ours} compiles may not run there: bring both to the same minor version."
    return _matched(url, str(answer.get("tag_name") or "unknown"), ours=ours, parts=2, remedy=remedy)


def _get(url: str) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310 - the user's own servers
    with urllib.request.urlopen(request, timeout=findings.TIMEOUT) as response:  # noqa: S310
        body: bytes = response.read(1 << 16)
        return body


def _silent(url: str, error: OSError, *, remedy: str) -> Finding:
    return Finding(verdict="failed", found=f"{url} does not answer ({getattr(error, 'reason', error)})", remedy=remedy)


def _matched(url: str, version: str, *, ours: str, parts: int, remedy: str) -> Finding:
    """The finding for a server that answers: `parts` leading parts of its version must be those of the client."""
    try:
        same = Version(version).release[:parts] == Version(ours).release[:parts]
    except InvalidVersion:
        found = f"{url} answers; its version is {version!r}"
        return Finding(verdict="warning", found=found, remedy=remedy)
    found = f"{url}: version {version}"
    return Finding(verdict="ok", found=found) if same else Finding(verdict="warning", found=found, remedy=remedy)
