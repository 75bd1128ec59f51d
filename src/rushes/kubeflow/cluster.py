"""A Kubeflow Pipelines server as Rushes uses it: what is there, and the few things that are done to it.

Each is one request, or one a page. The server is the one that `host` or KF_PIPELINES_ENDPOINT names; in a pod, the
cluster's own.
"""

import contextlib
import io
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rushes.errors import ServiceError, UserError
from rushes.kubeflow.schedules import Pipeline, Schedule
from rushes.strict import Json

_SECONDS = 60.0
"""What a submission may take."""
_LOOK_SECONDS = 15.0
"""What a look at a run may take; urllib3 tries it four times."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """IDs of what a run needs on the server."""

    experiment_id: str
    pipeline_id: str
    version_id: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a run that has begun."""

    name: str
    """Not its own: the parts of a loop share one."""
    state: str


@dataclass(frozen=True, kw_only=True)
class Progressing:
    """How far a run is."""

    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED, ..."""
    error: str
    tasks: tuple[Task, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True, kw_only=True)
class Recurring:
    """A recurring run that is on the server."""

    id: str
    name: str
    description: str
    cron: str
    version_id: str
    concurrency: int
    enabled: bool
    arguments: Mapping[str, Json]


@contextlib.contextmanager
def _told(remedy: str = "look whether it is up") -> Iterator[None]:
    """Turns what goes wrong on the way to the server, and at the server, into one line."""
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
            f"Kubeflow Pipelines gives answers that kfp makes nothing of ({found}): run `rushes doctor`"
        ) from error


class Cluster:
    """The server's part that belongs to one experiment.

    Args:
        host: the server's URL; empty for KF_PIPELINES_ENDPOINT or the cluster that this pod runs in.
        experiment: name of the experiment.
    """

    def __init__(self, host: str, *, experiment: str) -> None:
        self.host = host or os.environ.get("KF_PIPELINES_ENDPOINT", "") or "the cluster's own server"
        self.experiment = experiment
        with _told("give --host URL, or set KF_PIPELINES_ENDPOINT"), _quiet():
            self._client: Any = _client(host)
            self._check_server()

    def _check_server(self) -> None:
        """Raises unless it is Kubeflow's: to kfp, a page to log in is a server that has nothing."""
        answer = self._client.healthzs.healthz_service_get_healthz(_preload_content=False)
        try:
            json.loads(answer.data)
        except ValueError as error:
            raise self._no_kubeflow() from error

    def _no_kubeflow(self) -> ServiceError:
        remedy = "give the URL of the API itself: a login page or another server answers here"
        return ServiceError(f"{self.host} answers, but not as Kubeflow Pipelines does: {remedy}")

    # What is there ---------------------------------------------------------------------------------------------------

    @_told()
    def experiment_id(self) -> str | None:
        """The experiment's ID, or None where it is not there."""
        found = self._client.list_experiments(filter=_named(self.experiment)).experiments
        return found[0].experiment_id if found else None

    @_told()
    def pipeline_id(self, pipeline: Pipeline) -> str | None:
        """The pipeline's ID, or None where no version of it was ever uploaded."""
        namespace = self._client.get_user_namespace() or None
        found = self._client.list_pipelines(filter=_named(pipeline.name), namespace=namespace).pipelines
        return found[0].pipeline_id if found else None

    @_told()
    def version_id(self, pipeline: Pipeline) -> str | None:
        """ID of the version that has the pipeline's digest, or None where it is not there."""
        pipeline_id = self.pipeline_id(pipeline)
        if pipeline_id is None:
            return None
        found = self._client.list_pipeline_versions(pipeline_id, filter=_named(pipeline.version)).pipeline_versions
        return found[0].pipeline_version_id if found else None

    @_told()
    def target(self, pipeline: Pipeline) -> Target:
        """Where a run of the pipeline goes.

        Raises:
            UserError: the experiment or the pipeline is not there.
        """
        experiment_id, pipeline_id = self.experiment_id(), self.pipeline_id(pipeline)
        version_id = self.version_id(pipeline)
        if experiment_id is None or pipeline_id is None or version_id is None:
            missing = f"experiment: {self.experiment!r}" if experiment_id is None else f"pipeline: {pipeline.version!r}"
            raise UserError(f"{missing} is not on the server: run `rushes schedules apply`")
        return Target(experiment_id=experiment_id, pipeline_id=pipeline_id, version_id=version_id)

    @_told()
    def recurring(self) -> list[Recurring]:
        """All recurring runs of the experiment, whoever made them."""
        experiment = self.experiment_id()
        if experiment is None:
            return []
        return [_recurring(record) for record in self._pages("list_recurring_runs", "recurring_runs", experiment)]

    @_told()
    def run_id(self, name: str) -> str | None:
        """ID of a run of the experiment, or None where there is none of that name."""
        found = self._client.list_runs(experiment_id=self.experiment_id(), filter=_named(name)).runs
        return found[0].run_id if found else None

    @_told()
    def progress(self, run: str) -> Progressing:
        """How far a run is."""
        record = self._client.runs.run_service_get_run(run, _request_timeout=(_LOOK_SECONDS, _LOOK_SECONDS))
        if record.run_id != run:  # people may have to log in again while it is followed
            raise self._no_kubeflow()
        details = (record.run_details.task_details if record.run_details else None) or ()
        return Progressing(
            state=record.state or "PENDING",
            error=(record.error.message if record.error else None) or "",
            tasks=tuple(Task(name=task.display_name, state=task.state or "PENDING") for task in details),
        )

    # What is done ----------------------------------------------------------------------------------------------------

    def provide(self, pipeline: Pipeline) -> None:
        """Makes the experiment and uploads the pipeline, unless they are there."""
        if self.experiment_id() is None:
            self.create_experiment()
        if self.version_id(pipeline) is None:
            self.upload(pipeline)

    @_told()
    def create_experiment(self) -> None:
        """Makes the experiment."""
        with _quiet():
            self._client.create_experiment(self.experiment)

    @_told()
    def upload(self, pipeline: Pipeline) -> None:
        """Uploads the pipeline as a version that bears its digest."""
        from kfp_server_api import V2beta1Pipeline

        pipeline_id = self.pipeline_id(pipeline)
        if pipeline_id is None:
            # Not by `upload_pipeline`, which would make a first version whose name is no digest.
            made = self._client.pipelines.pipeline_service_create_pipeline(
                V2beta1Pipeline(
                    display_name=pipeline.name, name=pipeline.name, namespace=self._client.get_user_namespace() or None
                )
            )
            pipeline_id = made.pipeline_id
        with _quiet(), tempfile.TemporaryDirectory(prefix="rushes-upload-") as folder:
            file = Path(folder) / "pipeline.yaml"
            file.write_text(pipeline.text)
            self._client.upload_pipeline_version(
                str(file), pipeline.version, pipeline_id=pipeline_id, description=pipeline.digest
            )

    @_told()
    def create(self, schedule: Schedule, *, description: str) -> None:
        """Makes a recurring run; missed times are not caught up, since one run sees all that is new."""
        target = self.target(schedule.pipeline)
        self._client.create_recurring_run(
            experiment_id=target.experiment_id,
            pipeline_id=target.pipeline_id,
            version_id=target.version_id,
            job_name=schedule.name,
            description=description,
            params=dict(schedule.arguments),
            no_catchup=True,
            cron_expression=schedule.cron,
            max_concurrency=schedule.concurrency,
            enabled=schedule.enabled,
        )

    @_told()
    def switch(self, recurring: Recurring, *, enabled: bool) -> None:
        """Enables or disables a recurring run."""
        client = self._client
        (client.enable_recurring_run if enabled else client.disable_recurring_run)(recurring.id)

    @_told()
    def delete(self, recurring: Recurring) -> None:
        """Deletes a recurring run, and leaves the runs that it has started to end by themselves."""
        # kfp.Client's own way takes no policy, and the server's default ends runs that are under way.
        self._client.recurring_runs.recurring_run_service_delete_recurring_run(
            recurring.id, propagation_policy="ORPHAN"
        )

    @_told()
    def submit(self, arguments: Mapping[str, Json], target: Target, *, name: str, description: str) -> str:
        """Starts a run now; returns its ID."""
        import kfp_server_api as api

        run = api.V2beta1Run(
            display_name=name,
            description=description,
            experiment_id=target.experiment_id,
            pipeline_version_reference=api.V2beta1PipelineVersionReference(
                pipeline_id=target.pipeline_id, pipeline_version_id=target.version_id
            ),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        )
        # kfp.Client's own way has neither a description nor a limit of time.
        made = self._client.runs.run_service_create_run(run, _request_timeout=(_SECONDS, _SECONDS))
        return str(made.run_id)

    def _pages(self, method: str, records: str, experiment: str) -> Iterator[Any]:
        token = ""
        while True:
            page = getattr(self._client, method)(experiment_id=experiment, page_token=token, page_size=100)
            yield from getattr(page, records) or ()
            token = page.next_page_token
            if not token:
                return


def _client(host: str) -> Any:
    """A client, with a pod's token where there is one: kfp by itself reads it only where no host is set."""
    from kfp import Client
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH, ServiceAccountTokenVolumeCredentials

    token = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH
    return Client(
        host=host or None,
        credentials=ServiceAccountTokenVolumeCredentials() if Path(token).is_file() else None,
        namespace=os.environ.get("RUSHES_KFP_NAMESPACE") or "kubeflow",  # a profile's; this one is none, to kfp
    )


def _cause(error: Exception) -> str:
    """What was wrong, and with which host, without the layers round it: urllib3 nests them in words."""
    reason = getattr(error, "reason", None) or error
    return re.sub(r"^\w+\(host='([^']+)', port=(\d+)\): ", r"\1:\2: ", str(reason))


def _named(name: str) -> str:
    """The server's filter for a name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _recurring(record: Any) -> Recurring:
    trigger, reference, config = record.trigger, record.pipeline_version_reference, record.runtime_config
    cron = trigger.cron_schedule if trigger else None
    return Recurring(
        id=record.recurring_run_id,
        name=record.display_name,
        description=record.description or "",
        cron=(cron.cron if cron else None) or "",
        concurrency=int(record.max_concurrency or 0),
        version_id=(reference.pipeline_version_id if reference else None) or "",
        enabled=record.mode == "ENABLE",
        arguments=(config.parameters if config else None) or {},
    )


def _reason(error: Any) -> str:
    """What the server said."""
    try:
        record = json.loads(error.body)
        return str(record.get("message") or record.get("error"))
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what kfp prints, warns and logs away from people."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
