"""A Kubeflow Pipelines server as Rushes uses it: looking things up, and the few changes that it makes.

Each method is one request, or one per page. The server is the one that `host` or KF_PIPELINES_ENDPOINT names; in a pod,
the cluster's own.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rushes.errors import ServiceError, UserError
from rushes.kubeflow.client import connect, one_line_errors, quiet, server_url
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.schedules import Schedule
from rushes.kubeflow.versions import check_version
from rushes.kubeflow.workflow import Workflow
from rushes.strict import Json

_SECONDS = 60.0
"""Time limit of a submission."""
_LOOK_SECONDS = 15.0
"""Time limit of a look at a run; urllib3 tries it four times."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The IDs that a run needs."""

    experiment_id: str
    pipeline_id: str
    version_id: str


@dataclass(frozen=True, kw_only=True)
class Progressing:
    """How far a run is."""

    state: str
    """PENDING, RUNNING, CANCELING, SUCCEEDED, FAILED, ..."""
    terminated: bool
    """Whether a person ended it, after which its state is FAILED."""
    nodes: tuple[tuple[str, str], ...]
    """Name and state of each of the nodes that Argo has made of the tasks: `pin-driver`, `pin`, `executor`, ..."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True, kw_only=True)
class Recurring:
    """A recurring run on the server."""

    id: str
    name: str
    description: str
    cron: str
    version_id: str
    concurrency: int
    enabled: bool
    arguments: Mapping[str, Json]


class Cluster:
    """One experiment on the server.

    Args:
        host: the server's URL; empty for KF_PIPELINES_ENDPOINT or the cluster that this pod runs in.
        experiment: name of the experiment.

    Raises:
        ServiceError: no answer, or that of a server that refuses our runs.
    """

    warnings: list[str]
    """What the server's version lacks."""

    def __init__(self, host: str, *, experiment: str) -> None:
        self.host = server_url(host) or "the server of this machine's kubeconfig"
        self.experiment = experiment
        with one_line_errors("give --host URL, or set KF_PIPELINES_ENDPOINT"), quiet():
            self._client: Any = connect(host)
            self._check_server()

    def _check_server(self) -> None:
        """Raises unless a supported server answers: kfp takes a login page for a server without any runs."""
        answer = self._client.healthzs.healthz_service_get_healthz(_preload_content=False)
        try:
            record = json.loads(answer.data)
        except ValueError as error:
            raise self._no_kubeflow() from error
        self.warnings = check_version(str(record.get("tag_name") or "unknown"))

    def _no_kubeflow(self) -> ServiceError:
        remedy = "give the URL of the API itself: a login page or another server answers here"
        return ServiceError(f"{self.host} answers, but not as Kubeflow Pipelines does: {remedy}")

    # Looking up ------------------------------------------------------------------------------------------------------

    @one_line_errors()
    def experiment_id(self) -> str | None:
        """The experiment's ID, or None if the server does not have it."""
        found = self._client.list_experiments(filter=_named(self.experiment)).experiments
        return found[0].experiment_id if found else None

    @one_line_errors()
    def pipeline_id(self, pipeline: Pipeline) -> str | None:
        """The pipeline's ID, or None if no version of it was ever uploaded."""
        namespace = self._client.get_user_namespace() or None
        found = self._client.list_pipelines(filter=_named(pipeline.name), namespace=namespace).pipelines
        return found[0].pipeline_id if found else None

    @one_line_errors()
    def version_id(self, pipeline: Pipeline) -> str | None:
        """ID of the version with the pipeline's digest, or None if the server does not have it."""
        pipeline_id = self.pipeline_id(pipeline)
        if pipeline_id is None:
            return None
        found = self._client.list_pipeline_versions(pipeline_id, filter=_named(pipeline.version)).pipeline_versions
        return found[0].pipeline_version_id if found else None

    @one_line_errors()
    def target(self, pipeline: Pipeline) -> Target:
        """The IDs for a run of the pipeline.

        Raises:
            UserError: the server does not have the experiment or the pipeline.
        """
        experiment_id, pipeline_id = self.experiment_id(), self.pipeline_id(pipeline)
        version_id = self.version_id(pipeline)
        if experiment_id is None or pipeline_id is None or version_id is None:
            missing = f"experiment: {self.experiment!r}" if experiment_id is None else f"pipeline: {pipeline.version!r}"
            raise UserError(f"{missing} is not on the server: run `rushes schedules apply`")
        return Target(experiment_id=experiment_id, pipeline_id=pipeline_id, version_id=version_id)

    @one_line_errors()
    def recurring(self) -> list[Recurring]:
        """All recurring runs of the experiment, ours and others."""
        experiment = self.experiment_id()
        if experiment is None:
            return []
        return [_recurring(record) for record in self._pages("list_recurring_runs", "recurring_runs", experiment)]

    @one_line_errors()
    def run_id(self, name: str) -> str | None:
        """ID of the experiment's run of this name, or None."""
        found = self._client.list_runs(experiment_id=self.experiment_id(), filter=_named(name)).runs
        return found[0].run_id if found else None

    @one_line_errors()
    def progress(self, run: str) -> Progressing:
        """How far a run is."""
        record = self._client.runs.run_service_get_run(run, _request_timeout=(_LOOK_SECONDS, _LOOK_SECONDS))
        if record.run_id != run:  # a login may expire while the run is followed
            raise self._no_kubeflow()
        details = (record.run_details.task_details if record.run_details else None) or ()
        states = {record.state, *(one.state for one in record.state_history or ())}
        return Progressing(
            state=record.state or "PENDING",
            terminated=bool(states & {"CANCELING", "CANCELED"}),
            nodes=tuple((detail.display_name or "", detail.state or "PENDING") for detail in details),
        )

    @one_line_errors()
    def workflow(self, run: str) -> Workflow | None:
        """A run's Argo workflow, which only the API's earlier version gives; None where the server has none."""
        from kfp_server_api import ApiException

        try:
            answer = self._client.runs.api_client.call_api(
                f"/apis/v1beta1/runs/{quote(run, safe='')}",
                "GET",
                response_type="object",
                auth_settings=["Bearer"],
                _return_http_data_only=True,
                _request_timeout=(_LOOK_SECONDS, _LOOK_SECONDS),
            )
            return Workflow.parse(answer["pipeline_runtime"]["workflow_manifest"])
        except (ApiException, KeyError, TypeError, ValueError):
            return None

    # Changing --------------------------------------------------------------------------------------------------------

    def provide(self, pipeline: Pipeline) -> None:
        """Makes the experiment and uploads the pipeline, unless the server has them."""
        if self.experiment_id() is None:
            self.create_experiment()
        if self.version_id(pipeline) is None:
            self.upload(pipeline)

    @one_line_errors()
    def create_experiment(self) -> None:
        """Makes the experiment."""
        with quiet():
            self._client.create_experiment(self.experiment)

    @one_line_errors()
    def upload(self, pipeline: Pipeline) -> None:
        """Uploads the pipeline as a version that is named by its digest."""
        from kfp_server_api import V2beta1Pipeline

        pipeline_id = self.pipeline_id(pipeline)
        if pipeline_id is None:
            # `upload_pipeline` would make a first version whose name is not a digest.
            made = self._client.pipelines.pipeline_service_create_pipeline(
                V2beta1Pipeline(
                    display_name=pipeline.name, name=pipeline.name, namespace=self._client.get_user_namespace() or None
                )
            )
            pipeline_id = made.pipeline_id
        with quiet(), tempfile.TemporaryDirectory(prefix="rushes-upload-") as folder:
            file = Path(folder) / "pipeline.yaml"
            file.write_text(pipeline.text)
            self._client.upload_pipeline_version(
                str(file), pipeline.version, pipeline_id=pipeline_id, description=pipeline.digest
            )

    @one_line_errors()
    def create(self, schedule: Schedule, *, description: str) -> None:
        """Makes a recurring run; missed runs are not made up for, since one run sees all new data."""
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

    @one_line_errors()
    def switch(self, recurring: Recurring, *, enabled: bool) -> None:
        """Enables or disables a recurring run."""
        client = self._client
        (client.enable_recurring_run if enabled else client.disable_recurring_run)(recurring.id)

    @one_line_errors()
    def delete(self, recurring: Recurring) -> None:
        """Deletes a recurring run; the runs that it has started continue."""
        # kfp.Client's own method takes no policy, and the server's default would end those runs.
        self._client.recurring_runs.recurring_run_service_delete_recurring_run(
            recurring.id, propagation_policy="ORPHAN"
        )

    @one_line_errors()
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
        # kfp.Client's own method has neither a description nor a time limit.
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


def _named(name: str) -> str:
    """A filter of the server's API for a name."""
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
