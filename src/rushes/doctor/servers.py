"""The doctor's checks of servers: do MLflow and Kubeflow Pipelines answer, in versions that fit the clients here?"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from importlib import metadata

from packaging.version import InvalidVersion, Version

from rushes.doctor import findings
from rushes.doctor.findings import Environment, Finding
from rushes.errors import ServiceError
from rushes.home import home_folder
from rushes.kubeflow.client import server_url
from rushes.kubeflow.versions import check_version, is_newer, retried_by_default
from rushes.kubeflow.workflow import Workflow
from rushes.processes import status
from rushes.tracking.server import NAME as MLFLOW
from rushes.tracking.server import tracking_url

_MOST = 1 << 26
"""Bytes of a run's workflow."""
_RETRIED: Mapping[str, str] = {
    "OnFailure": "a step that fails is tried again, a pod that vanished with its node is not",
    "OnError": "a pod that vanished with its node is tried again; a step that fails, for lack of memory too, is not",
    "Always": "both a step that fails and a pod that vanished are tried again",
}


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
    url = _kubeflow(environment)
    if not url:
        remedy = "To run on a cluster: --host URL, the profile's host, or KF_PIPELINES_ENDPOINT."
        return Finding(verdict="ok", found="not configured", remedy=remedy)
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
    return _judged(url, str(answer.get("tag_name") or "unknown"))


def _judged(url: str, version: str) -> Finding:
    """The finding for a server of Kubeflow Pipelines of this version."""
    remedy = "Upgrade it; what it lacks is in docs/runbook.md."
    try:
        lost = check_version(version)
    except ServiceError as error:
        return Finding(verdict="failed", found=f"{url}: {error}", remedy=remedy)
    if lost:
        return Finding(verdict="warning", found=f"{url}: {lost[0]}", remedy=remedy)
    if is_newer(version):
        remedy = "Try a small run first: what this version does was not compared with what is compiled."
        return Finding(verdict="warning", found=f"{url}: version {version}, newer than those looked at", remedy=remedy)
    return Finding(verdict="ok", found=f"{url}: version {version}")


def check_retries(environment: Environment) -> Finding:
    """Which failures the server of Kubeflow Pipelines tries again: as its last run shows, or by its version."""
    url = _kubeflow(environment)
    if not url:
        return Finding(verdict="ok", found="Kubeflow is not configured")
    try:
        version = str(json.loads(_get(f"{url}/apis/v2beta1/healthz")).get("tag_name") or "unknown")
    except (OSError, ValueError):
        return Finding(verdict="ok", found=f"{url} does not say it, see kubeflow")
    last = _last_workflow(url)
    policy = last.retry_policy if last else retried_by_default(version)
    source = "as its last run shows" if last else f"as {version} installs it; no run shows it"
    found = f"{policy}, {source}: {_RETRIED[policy]}"
    remedy = "Set the policy to Always: docs/runbook.md, What is tried again."
    if policy == "Always":
        if last is None or not last.layers_retried:
            return Finding(verdict="ok", found=found)
        found = f"{policy}, {source}, of each layer around a step too: a step that fails may begin hundreds of times"
        remedy = 'Set the limit of templateDefaults to "0": docs/runbook.md, What is tried again.'
    return Finding(verdict="warning", found=found, remedy=remedy)


def _last_workflow(url: str) -> Workflow | None:
    """The workflow of the newest run; None where none can be read, or where its retry policy is unknown."""
    space = os.environ.get("RUSHES_KFP_NAMESPACE", "")
    query = urllib.parse.urlencode({"page_size": 1, "sort_by": "created_at desc", "namespace": space})
    try:
        (run,) = json.loads(_get(f"{url}/apis/v2beta1/runs?{query}")).get("runs") or [{}]
        detail = json.loads(_get(f"{url}/apis/v1beta1/runs/{run['run_id']}", most=_MOST))
        workflow = Workflow.parse(detail["pipeline_runtime"]["workflow_manifest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return workflow if workflow.retry_policy in _RETRIED else None


def _kubeflow(environment: Environment) -> str:
    """URL of the server; empty where none is configured."""
    host = server_url(environment.host or environment.cluster.host)
    return host.rstrip("/") if "://" in host or not host else f"http://{host.rstrip('/')}"


def _get(url: str, *, most: int = 1 << 16) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310 - the user's own servers
    with urllib.request.urlopen(request, timeout=findings.TIMEOUT) as response:  # noqa: S310
        body: bytes = response.read(most)
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
