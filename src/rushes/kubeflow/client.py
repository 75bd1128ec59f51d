"""The connection to a Kubeflow Pipelines server: kfp's client, without its noise, and its errors in one line."""

import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rushes.errors import ServiceError

_IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


def server_url(host: str) -> str:
    """The server to ask: `host`, KF_PIPELINES_ENDPOINT, in a pod the cluster's own; empty where none of them is known.

    kfp by itself looks for the cluster's own in the namespace of the user, where Kubeflow has several.
    """
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    return host or os.environ.get("KF_PIPELINES_ENDPOINT", "") or (_IN_CLUSTER if in_pod else "")


def connect(host: str) -> Any:
    """A client, with the pod's token if there is one: kfp by itself reads it only if no host is given."""
    from kfp import Client
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH, ServiceAccountTokenVolumeCredentials

    token = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH
    return Client(
        host=server_url(host) or None,
        credentials=ServiceAccountTokenVolumeCredentials() if Path(token).is_file() else None,
        namespace=os.environ.get("RUSHES_KFP_NAMESPACE") or "kubeflow",  # kfp's default: no user's namespace
    )


@contextlib.contextmanager
def one_line_errors(remedy: str = "check that it is running") -> Iterator[None]:
    """Turns errors of the connection, of the server and of kfp into a ServiceError of one line."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise ServiceError(f"Kubeflow Pipelines refused ({error.status}): {_reason(error)}") from error
    except (HTTPError, TimeoutError) as error:
        raise ServiceError(f"Kubeflow Pipelines does not answer ({_cause(error)}): {remedy}") from error
    except ValueError as error:
        found = " ".join(str(error).split())
        raise ServiceError(
            f"Kubeflow Pipelines gives answers that kfp cannot read ({found}): run `rushes doctor`"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what kfp prints, warns about and logs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _cause(error: Exception) -> str:
    """What failed, and with which host, without the layers of words that urllib3 puts around it."""
    reason = getattr(error, "reason", None) or error
    return re.sub(r"^\w+\(host='([^']+)', port=(\d+)\): ", r"\1:\2: ", str(reason))


def _reason(error: Any) -> str:
    """The message in the server's answer."""
    try:
        record = json.loads(error.body)
        return str(record.get("message") or record.get("error"))
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)
