"""A stand-in for a Kubeflow Pipelines server: real sockets, state, and every request held against the API's models.

No live server is at hand, so what the requests look like is checked against what `kfp_server_api` says of them: a
field that a model does not have, or of another type, is refused, at any depth. Beyond that it behaves as the sources
of Kubeflow's server do where we depend on it:

- names are looked up by filter, lists come in pages, int64 is text in answers; pipelines have unique names, and a
  pipeline's versions among themselves
- parameters must be the pipeline's, and of its types; numbers may be of either kind
- a cron expression is parsed when a recurring run is made (`tests.kubeflow.robfig`)
- deleting a recurring run ends its runs, unless told otherwise, by a server of 2.16 or later
- a run's details are Argo's nodes, and neither they nor the run have a message (`tests.kubeflow.workflows`); the API's
  earlier version gives the whole workflow
- a file has up to 32 MB
- a run whose workflow outgrows what Argo can store fails (`tests.kubeflow.packer`)
- a run that a person terminates is CANCELING until its pods have ended, and FAILED then
"""

import email
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api.models as models
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from rushes.orchestration.image import yaml_documents
from tests.kubeflow import packer
from tests.kubeflow.robfig import parse as parse_cron
from tests.kubeflow.workflows import Tasks, details_of, workflow_of

Record = dict[str, Any]
Look = tuple[str, Tasks] | int
"""A run's state with its tasks'; or a fault, as in `Kubeflow.faults`."""
_MOST_UPLOADED = 32 << 20
LOGIN = "<!DOCTYPE html><html><form>Log in</form></html>"
_INT64 = {("V2beta1RecurringRun", "max_concurrency"), ("V2beta1PeriodicSchedule", "interval_second")}
"""Fields that the models call text, since answers have them so; requests may have numbers."""
_PLAIN: Mapping[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}


_PARAMETERS: Mapping[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}
"""What the server takes for each type of a pipeline's parameters."""


class RefusedError(Exception):
    """The answer is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def conform(value: Any, kind: str, where: str) -> None:
    """Raises RefusedError unless a request's value is what the API's models say, at any depth."""
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        _require(isinstance(value, list), where, value, kind)
        for number, item in enumerate(value):
            conform(item, match[1], f"{where}[{number}]")
    elif match := re.fullmatch(r"dict\(str, (.*)\)", kind):
        _require(isinstance(value, dict), where, value, kind)
        for name, item in value.items():
            conform(item, match[1], f"{where}.{name}")
    elif kind == "datetime":
        _require(isinstance(value, str), where, value, kind)
        datetime.fromisoformat(value)
    elif kind in _PLAIN:
        _require(isinstance(value, _PLAIN[kind]) and (kind == "bool") == isinstance(value, bool), where, value, kind)
    elif kind != "object":
        _conform_model(value, getattr(models, kind), where)


def _conform_model(value: Any, model: Any, where: str) -> None:
    if hasattr(model, "allowable_values"):
        _require(value in model.allowable_values, where, value, f"one of {model.allowable_values}")
        return
    _require(isinstance(value, dict), where, value, model.__name__)
    kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for name, item in value.items():
        _require(name in kinds, f"{where}.{name}", item, f"a field of {model.__name__}")
        if (model.__name__, name) in _INT64 and isinstance(item, int):
            continue
        conform(item, kinds[name], f"{where}.{name}")


def _require(holds: bool, where: str, value: object, kind: str) -> None:
    if not holds:
        raise RefusedError(400, f"{where}: {value!r} is not {kind}")


class Kubeflow:
    """The server's state, and what it was asked."""

    def __init__(self) -> None:
        self.experiments: dict[str, Record] = {}
        self.pipelines: dict[str, Record] = {}
        self.versions: dict[str, Record] = {}
        self.compiled: dict[str, tuple[str, Record, Record]] = {}
        """What was uploaded, by the version's ID: the file, its pipeline, and its settings for Kubernetes."""
        self.recurring: dict[str, Record] = {}
        self.runs: dict[str, Record] = {}
        self.calls: list[str] = []
        """Method and path of each request."""
        self.credentials: list[str | None] = []
        """The Authorization header of each request."""
        self.faults: dict[str, int] = {}
        """Requests (`POST /runs`) that are answered by an error, once; 0 does what was asked and loses the answer, 200
        answers with a page to log in."""
        self.login = False
        """Whether everything is answered by that page, as where a proxy is in front of the server."""
        self.fate: list[Look] = [("SUCCEEDED", {})]
        """What the next looks at a run come to."""
        self.start: Callable[[Record, str], Callable[[], Look]] | None = None
        """Runs what is submitted, a run and its compiled file; looks at that run come to what it returns."""
        self.looks: dict[str, Callable[[], Look]] = {}
        """Of runs that `start` has started, by their IDs."""
        self.gate: tuple[str, threading.Barrier] | None = None
        """Requests of this kind wait for each other."""
        self.url = ""
        self.broken: list[Exception] = []
        """Errors of this stand-in itself."""
        self.release = "2.17.0"
        self.retry_policy = "OnError"
        """What the workflow controller's defaults say; empty where it has none, as before 2.17."""
        self.earlier_api = True
        """Whether the API's earlier version answers, too."""
        self._lock = threading.Lock()

    @property
    def changes(self) -> list[str]:
        """Requests that were not for reading."""
        return [call for call in self.calls if not call.startswith("GET ")]

    def fire(self, name: str) -> str:
        """What the controller does when a recurring run is due: returns the run's ID."""
        (owner,) = (record for record in self.recurring.values() if record["display_name"] == name)
        run = {"run_id": str(uuid.uuid4()), "display_name": f"{name}-1", "state": "RUNNING"}
        self.runs[run["run_id"]] = run | {"recurring_run_id": owner["recurring_run_id"]}
        return run["run_id"]

    def named(self, name: str) -> Record:
        """The only recurring run of that name."""
        (found,) = (record for record in self.recurring.values() if record["display_name"] == name)
        return found

    # Requests --------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes, content_type: str) -> Record:
        """Does what a request asks."""
        call = f"{method} {path}"
        if self.gate is not None and self.gate[0] == call:
            self.gate[1].wait(240)
        with self._lock:
            self.calls.append(call)
            if self.login:
                raise RefusedError(200, "log in")
            fault = self.faults.pop(call, None)
            if fault:
                raise RefusedError(fault, "out of order")
            for pattern, handler in self._routes().items():
                if match := re.fullmatch(pattern, call):
                    if method == "POST" and body and "json" in content_type:
                        query = {**query, "body": body.decode()}
                    elif method == "POST" and body:
                        query = {**query, "file": _uploaded(body, content_type)}
                    answer = handler(*match.groups(), query)
                    if fault == 0:
                        raise ConnectionAbortedError
                    return answer
        raise RefusedError(404, f"{call}: no such thing")

    def _routes(self) -> dict[str, Callable[..., Record]]:
        return {
            "GET /healthz": lambda query: {"multi_user": False, "tag_name": self.release},
            "GET /experiments": lambda query: _page(self.experiments, "experiments", query),
            "POST /experiments": self._create_experiment,
            "GET /pipelines": lambda query: _page(self.pipelines, "pipelines", query),
            "POST /pipelines": self._create_pipeline,
            "POST /pipelines/upload_version": self._upload_version,
            "GET /pipelines/([^/]+)/versions": self._list_versions,
            "GET /recurringruns": self._list_recurring,
            "POST /recurringruns": self._create_recurring,
            "DELETE /recurringruns/([^/:]+)": self._delete_recurring,
            "POST /recurringruns/([^/:]+):(enable|disable)": self._switch,
            "GET /runs": lambda query: _page({key: _shown(run) for key, run in self.runs.items()}, "runs", query),
            "POST /runs": self._create_run,
            "GET /runs/([^/:]+)": lambda key, query: self._advance(_known(self.runs, key)),
            "POST /runs/([^/:]+):terminate": self._terminate,
            "GET /apis/v1beta1/runs/([^/:]+)": self._workflow,
        }

    def _create_experiment(self, query: Mapping[str, str]) -> Record:
        record = _body(query, "V2beta1Experiment")
        if any(known["display_name"] == record["display_name"] for known in self.experiments.values()):
            raise RefusedError(409, "the experiment is there")
        return _add(self.experiments, "experiment_id", record)

    def _create_pipeline(self, query: Mapping[str, str]) -> Record:
        record = _body(query, "V2beta1Pipeline")
        if any(known["display_name"] == record["display_name"] for known in self.pipelines.values()):
            raise RefusedError(409, "the pipeline is there")
        return _add(self.pipelines, "pipeline_id", record)

    def _upload_version(self, query: Mapping[str, str]) -> Record:
        _known(self.pipelines, query["pipelineid"])
        own = [known for known in self.versions.values() if known["pipeline_id"] == query["pipelineid"]]
        if any(known["display_name"] == query["name"] for known in own):
            raise RefusedError(409, "the version is there")
        if len(query["file"].encode()) > _MOST_UPLOADED:
            raise RefusedError(400, "the file is too large")
        spec, *platforms = yaml_documents(query["file"])
        json_format.ParseDict(spec, PipelineSpec())
        for platform in platforms:
            for settings in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
                json_format.ParseDict(settings, KubernetesExecutorConfig())
        record = {"pipeline_id": query["pipelineid"], "display_name": query["name"], "pipeline_spec": spec}
        made = _add(self.versions, "pipeline_version_id", record | {"description": query.get("description", "")})
        self.compiled[made["pipeline_version_id"]] = (query["file"], spec, platforms[0] if platforms else {})
        return made

    def _list_versions(self, pipeline: str, query: Mapping[str, str]) -> Record:
        own = {key: record for key, record in self.versions.items() if record["pipeline_id"] == pipeline}
        return _page(own, "pipeline_versions", query)

    def _list_recurring(self, query: Mapping[str, str]) -> Record:
        own = {k: record for k, record in self.recurring.items() if record["experiment_id"] == query["experiment_id"]}
        return _page(own, "recurringRuns", query)

    def _create_recurring(self, query: Mapping[str, str]) -> Record:
        record = _body(query, "V2beta1RecurringRun")
        self._check_run(record)
        if not 1 <= int(record["max_concurrency"]) <= 10:
            raise RefusedError(400, "max_concurrency: 1 to 10")
        try:
            parse_cron(record["trigger"]["cron_schedule"]["cron"])
        except ValueError as error:
            raise RefusedError(400, f"Schedule cron is not a supported format. Error: {error}") from error
        record["max_concurrency"] = str(record["max_concurrency"])
        record["status"] = f"{record['mode']}D"
        return _add(self.recurring, "recurring_run_id", record)

    def _delete_recurring(self, key: str, query: Mapping[str, str]) -> Record:
        policy = query.get("propagation_policy", "BACKGROUND")
        conform(policy, "V2beta1DeletePropagationPolicy", "propagation_policy")
        _known(self.recurring, key)
        del self.recurring[key]
        if policy != "ORPHAN" or not self.knows_policy:
            self.runs = {k: run for k, run in self.runs.items() if run.get("recurring_run_id") != key}
        return {}

    @property
    def knows_policy(self) -> bool:
        """Whether runs outlive the recurring run that made them."""
        return tuple(map(int, self.release.split(".")[:2])) >= (2, 16)

    def _switch(self, key: str, verb: str, query: Mapping[str, str]) -> Record:
        record = _known(self.recurring, key)
        record["mode"], record["status"] = verb.upper(), f"{verb.upper()}D"
        return {}

    def _create_run(self, query: Mapping[str, str]) -> Record:
        record = _body(query, "V2beta1Run")
        self._check_run(record)
        made = _add(self.runs, "run_id", record | {"state": "PENDING"})
        if self.start is not None:
            file, *_ = self.compiled[record["pipeline_version_reference"]["pipeline_version_id"]]
            self.looks[made["run_id"]] = self.start(made, file)
        return made

    def _terminate(self, key: str, query: Mapping[str, str]) -> Record:
        _change_state(_known(self.runs, key), "CANCELING")
        return {}

    def _advance(self, run: Record) -> Record:
        """What a run has come to at each look: the next of the states that `fate` holds, the last one for ever."""
        if run["run_id"] in self.looks:
            look = self.looks[run["run_id"]]()
        else:
            look = self.fate.pop(0) if len(self.fate) > 1 else self.fate[0]
        if look == 0:
            raise ConnectionAbortedError
        if isinstance(look, int):
            raise RefusedError(look, "out of order")
        state, tasks = look
        version = run.get("pipeline_version_reference", {}).get("pipeline_version_id", "")
        if version in self.compiled:
            state = self._keep_workflow(run, version, state, tasks)
            run["run_details"] = {"task_details": details_of(run["workflow"])}
        _change_state(run, state)
        answer = _shown(run)
        conform(answer, "V2beta1Run", "run")
        return answer

    def _keep_workflow(self, run: Record, version: str, state: str, tasks: Tasks) -> str:
        """Stores a run's workflow; one that is too large ends with an error. Returns the run's state."""
        if _phase(run) == "Error":
            return "FAILED"
        _, pipeline, platform = self.compiled[version]
        workflow = workflow_of(pipeline, state=state, tasks=tasks, retry_policy=self.retry_policy)
        full = packer.with_parameters(workflow, pipeline, platform, run["runtime_config"]["parameters"])
        too_large = full is not workflow and packer.is_too_large(full)
        run["workflow"] = packer.failed(run.get("workflow"), workflow) if too_large else workflow
        return "FAILED" if too_large else state

    def _workflow(self, key: str, query: Mapping[str, str]) -> Record:
        """A run as the API's earlier version gives it."""
        if not self.earlier_api:
            raise RefusedError(404, "no such thing")
        workflow = json.dumps(_known(self.runs, key).get("workflow") or {})
        return {"run": {"id": key}, "pipeline_runtime": {"workflow_manifest": workflow}}

    def _check_run(self, record: Record) -> None:
        """What the server checks of runs and recurring runs alike."""
        if not record.get("display_name"):
            raise RefusedError(400, "the name is empty")
        _known(self.experiments, record["experiment_id"])
        _known(self.pipelines, record["pipeline_version_reference"]["pipeline_id"])
        version = _known(self.versions, record["pipeline_version_reference"]["pipeline_version_id"])
        inputs = version["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        given = record["runtime_config"]["parameters"]
        if unknown := given.keys() - inputs.keys():
            raise RefusedError(400, f"unknown parameters: {unknown}")
        if missing := {name for name, one in inputs.items() if not one.get("isOptional")} - given.keys():
            raise RefusedError(400, f"missing parameters: {missing}")
        for name, value in given.items():
            kind = inputs[name]["parameterType"]
            allowed = isinstance(value, _PARAMETERS[kind]) and (kind == "BOOLEAN") == isinstance(value, bool)
            _require(allowed, f"input parameter {name}", value, f"of type {kind}")


def _body(query: Mapping[str, str], model: str) -> Record:
    record: Record = json.loads(query["body"])
    conform(record, model, model)
    return record


def _add(table: dict[str, Record], id_field: str, record: Record) -> Record:
    key = str(uuid.uuid4())
    table[key] = record | {id_field: key, "created_at": datetime.now(UTC).isoformat()}
    return table[key]


def _known(table: Mapping[str, Record], key: str) -> Record:
    if key not in table:
        raise RefusedError(404, f"{key} is not there")
    return table[key]


def _phase(run: Record) -> str:
    return str(run.get("workflow", {}).get("status", {}).get("phase"))


def _change_state(run: Record, state: str) -> None:
    if run.get("state") != state:
        run.setdefault("state_history", []).append({"update_time": datetime.now(UTC).isoformat(), "state": state})
    run["state"] = state


def _shown(run: Record) -> Record:
    return {name: value for name, value in run.items() if name != "workflow"}


def _page(table: Mapping[str, Record], name: str, query: Mapping[str, str]) -> Record:
    """Up to two records, whatever is asked for: nobody may take the first page for all."""
    records = list(table.values())
    if query.get("filter"):
        (predicate,) = json.loads(query["filter"])["predicates"]
        assert predicate["operation"] in ("EQUALS", 1) and predicate["key"] == "display_name"
        records = [record for record in records if record["display_name"] == predicate["stringValue"]]
    first = int(query.get("page_token") or 0)
    answer: Record = {name: records[first : first + 2], "total_size": len(records)}
    if len(records) > first + 2:
        answer["next_page_token"] = str(first + 2)
    return answer if records else {}


def _uploaded(body: bytes, content_type: str) -> str:
    message: Any = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    (part,) = message.get_payload()
    assert 'name="uploadfile"' in part["Content-Disposition"]
    return str(part.get_payload(decode=True).decode())


@contextmanager
def serving() -> Iterator[Kubeflow]:
    """A server on a free port."""
    state = Kubeflow()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            split = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = split.path.removeprefix("/apis/v2beta1")
            state.credentials.append(self.headers.get("Authorization"))
            kind, sent = "application/json", self.headers.get("Content-Type") or ""
            try:
                status, text = 200, json.dumps(state.answer(self.command, path, query, body, sent))
            except RefusedError as error:
                status, text = error.status, json.dumps({"code": 3, "message": str(error)})
                if status == 200:
                    text, kind = LOGIN, "text/html"
            except Exception as error:
                if not isinstance(error, ConnectionAbortedError | threading.BrokenBarrierError):
                    state.broken.append(error)
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
    assert not state.broken, f"the stand-in itself failed: {state.broken!r}"
