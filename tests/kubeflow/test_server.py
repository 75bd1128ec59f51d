"""The stand-in is as strict as the server that it stands for, where our requests depend on it."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import ServiceError, UserError
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.cron import check_cron
from rushes.orchestration.local import compiled_comparison, compiled_pipeline
from rushes.recipes import load_recipe
from rushes.strict import to_record
from tests.kubeflow import robfig
from tests.kubeflow.server import Kubeflow, serving

PIPELINE = Pipeline.read(compiled_pipeline())
GIVEN = {"videos": "s3://b/v", "models": [to_record(load_recipe("vcop-r3d", size="cpu"))], "endpoint": "e"}

value = st.integers(0, 62).map(str) | st.sampled_from(["JAN", "dec", "Mon", "SUN", "*", "?", "x", ""])
ranged = st.builds("-".join, st.lists(value, min_size=1, max_size=3))
part = st.builds("/".join, st.tuples(ranged) | st.tuples(ranged, st.integers(0, 9).map(str)))
fields = st.lists(part, min_size=1, max_size=3).map(",".join)
expressions = st.lists(fields, min_size=6, max_size=6).map(" ".join)


@given(expressions)
def test_what_we_take_for_a_cron_expression_the_server_takes_too(cron: str) -> None:
    try:
        check_cron(cron, "here")
    except UserError as error:
        if "never comes" not in str(error) and len(cron.split()) == 6 and ",," not in f",{cron},".replace(" ", ","):
            try:
                taken = robfig.parse(cron)
            except ValueError:
                return
            # robfig takes `*-5` for `*`: we do not.
            assert any("*-" in text or "?-" in text for text in cron.split()), (cron, taken)
    else:
        assert all(robfig.parse(cron))


def test_five_fields_are_taken_and_misread() -> None:
    seconds, minutes, *_ = robfig.parse("0 2 * * *")
    assert (seconds, minutes) == ({0}, {2}), "not at two o'clock"
    with pytest.raises(UserError, match="has 5 fields"):
        check_cron("0 2 * * *", "here")


@pytest.fixture
def server() -> Iterator[Kubeflow]:
    with serving() as state:
        yield state


@pytest.fixture
def connected(server: Kubeflow) -> Cluster:
    cluster = Cluster(server.url, experiment="rushes")
    cluster.provide(PIPELINE)
    return cluster


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("videos", 1),
        ("fold", "1"),
        ("fold", True),
        ("models", {"a": 1}),
        ("models", "vcop-r3d"),
        ("endpoint", ["e"]),
        ("endpoint", None),
    ],
)
def test_a_parameter_of_another_type_is_refused(name: str, wrong: Any, connected: Cluster) -> None:
    target = connected.target(PIPELINE)
    connected.submit(GIVEN, target, name="a", description="")
    with pytest.raises(ServiceError, match=f"refused \\(400\\): input parameter {name}: .* is not of type"):
        connected.submit({**GIVEN, name: wrong}, target, name="b", description="")


def test_a_whole_number_may_be_of_either_kind(connected: Cluster) -> None:
    connected.submit({**GIVEN, "fold": 1.0}, connected.target(PIPELINE), name="a", description="")


def test_two_pipelines_may_have_versions_of_one_name_and_one_may_not(server: Kubeflow, connected: Cluster) -> None:
    connected.provide(Pipeline.read(compiled_comparison()))
    (one, other) = server.pipelines
    for pipeline in (one, other):
        made = {record["display_name"] for record in server.versions.values() if record["pipeline_id"] == pipeline}
        assert len(made) == 1
    with pytest.raises(ServiceError, match=r"refused \(409\): the version is there"):
        connected.upload(PIPELINE)


def test_a_run_that_failed_has_no_message_and_its_tasks_no_names_of_ours(server: Kubeflow, connected: Cluster) -> None:
    run = connected.submit(GIVEN, connected.target(PIPELINE), name="a", description="")
    server.fate = [("FAILED", {"sample": ["SUCCEEDED", "FAILED(main: Error (exit code 1))"]})]
    record = connected._client.get_run(run)
    assert record.error is None
    details = record.run_details.task_details
    assert all(task.error is None and task.pod_name is None for task in details)
    names = [task.display_name for task in details]
    assert {"root-driver", "iteration-iterations(1:1)", "iteration-item", "executor", "executor(0)"} <= set(names)
    assert "sample a part" not in names and names.count("sample") == 2
    assert len(names) > 4 * 2
