"""Schedules: what a file may say, and that a server comes to have it, whatever happened to it before."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rushes.cli import main
from rushes.errors import UserError
from rushes.footage.reference import DataReference, check_remote
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.schedules import read_schedules
from rushes.orchestration.image import tag
from rushes.orchestration.local import compiled_pipeline
from rushes.recipes import load_recipe
from rushes.strict import to_record
from tests.kubeflow.server import Kubeflow, RefusedError, conform, serving

REPOSITORY = Path(__file__).parents[2]
PIPELINE = Pipeline.read(compiled_pipeline())
RECIPE = to_record(load_recipe("vcop-r3d", size="cpu"))


def entry(name: str = "nightly", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "cron": "0 0 2 * * *",
        "pipeline": PIPELINE.digest,
        "data": {"videos": "/data/videos", "revision": "main"},
        "parameters": {"endpoint": "e", "models": ["pace-r2plus1d:pretrain.epochs=60"]},
        **changes,
    }


def given(**parameters: Any) -> dict[str, Any]:
    """An entry with these parameters besides what the pipeline needs."""
    return entry(parameters={"endpoint": "e", "models": ["vcop-r3d"], **parameters})


def written(folder: Path, *entries: Any, **changes: Any) -> Path:
    path = folder / "schedules.yaml"
    path.write_text(yaml.safe_dump({"experiment": "rushes", "schedules": list(entries), **changes}))
    return path


@pytest.fixture
def server() -> Iterator[Kubeflow]:
    with serving() as state:
        yield state


class Applied:
    """Applies files of schedules, and says which requests that took."""

    def __init__(self, server: Kubeflow, folder: Path) -> None:
        self.server, self.folder = server, folder

    def __call__(self, *entries: dict[str, Any]) -> list[str]:
        before = len(self.server.changes)
        assert main(["schedules", "apply", str(written(self.folder, *entries)), "--host", self.server.url]) == 0
        return self.server.changes[before:]


@pytest.fixture
def applied(server: Kubeflow, tmp_path: Path) -> Applied:
    return Applied(server, tmp_path)


# What a file may say -------------------------------------------------------------------------------------------------


def test_the_committed_file_is_right_about_the_committed_pipeline() -> None:
    file = read_schedules(REPOSITORY / "deploy" / "schedules.yaml", [PIPELINE])
    assert [schedule.name for schedule in file.schedules] == ["weekly"]
    assert file.schedules[0].pipeline == PIPELINE and not file.schedules[0].enabled


def test_what_is_switched_on_names_what_was_reviewed(tmp_path: Path) -> None:
    off = read_schedules(written(tmp_path, entry(pipeline="this-code", enabled=False)), [PIPELINE])
    assert off.schedules[0].pipeline == PIPELINE
    words = f"pipeline: 'this-code' names nothing that was reviewed; known: {PIPELINE.digest} .*write its digest"
    with pytest.raises(UserError, match=words):
        read_schedules(written(tmp_path, entry(pipeline="this-code")), [PIPELINE])


def test_the_digest_of_a_pipeline_covers_the_code_and_is_that_of_the_compiled_file(tmp_path: Path) -> None:
    assert tag() in PIPELINE.text and "this-code" not in PIPELINE.text
    file = tmp_path / "reviewed.yaml"
    file.write_text(PIPELINE.text)
    assert Pipeline.read(file).digest == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" == PIPELINE.digest
    file.write_text(PIPELINE.text.replace(tag(), "0.1.0-0123456789ab"))
    assert Pipeline.read(file).digest != PIPELINE.digest, "the same pipeline of other code is another pipeline"


def test_a_pipeline_whose_image_can_be_moved_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "moved.yaml"
    file.write_text(PIPELINE.text.replace(tag(), "latest"))
    with pytest.raises(UserError, match=r"moved.yaml': image 'rushes/python:latest' can be moved: name it NAME@sha256"):
        Pipeline.read(file)


def test_a_server_gets_the_tag_and_never_the_placeholder(server: Kubeflow, applied: Applied) -> None:
    applied(entry(pipeline="this-code", enabled=False))
    (version,) = server.versions.values()
    containers = version["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {one["container"]["image"] for one in containers} == {f"rushes/python:{tag()}"}
    assert version["display_name"] == PIPELINE.version


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            [entry(cron="0 2 * * *")],
            "nightly': cron: '0 2 * * *' has 5 fields; Kubeflow wants six, the seconds first: write '0 0 2 * * *'",
        ),
        ([entry(cron="@daily")], "cron: '@daily' has 1 fields"),
        ([entry(cron="0 0 24 * * *")], "cron: '0 0 24 * * *': '24' is no hour; 0 to 23"),
        ([entry(cron="0 0 2 * * 7")], "'7' is no day of the week; 0 to 6 or SUN to SAT"),
        ([entry(cron="0 0 2 */0 * *")], "'*/0' is no day of the month"),
        ([entry(cron="0 0 2 9-3 * *")], "'9-3' is no day of the month"),
        (
            [entry(pipeline="sha256:" + "0" * 64)],
            f"nightly': pipeline: 'sha256:{'0' * 64}' is not known; known: "
            f"{PIPELINE.digest} (pipeline.yaml): review what was compiled and write its digest, "
            "or give --pipeline FILE",
        ),
        ([entry(pipeline="rushes")], "pipeline: 'rushes' is not known"),
        ([entry(concurrency=0)], "nightly': concurrency: 0 is not allowed; runs at a time, 1 to 10"),
        ([entry(concurrency=11)], "nightly': concurrency: 11 is not allowed; runs at a time, 1 to 10"),
        ([entry(concurrency="two")], "concurrency: 'two' is not an int"),
        ([entry(crom="x")], "schedule 'nightly': unknown key 'crom'; did you mean 'cron'?"),
        ([entry(), entry(cron="0 0 3 * * *")], "name: 'nightly' is there twice: give each schedule a name of its own"),
        ([{name: value for name, value in entry().items() if name != "cron"}], "nightly': 'cron' is missing"),
        ([entry(name="Nightly run")], "name: 'Nightly run' is not allowed; lower-case letters"),
        (
            [entry(parameters={"models": ["vcop-r3d"], "endpoint": "e", "epochs": 3})],
            "nightly': parameters: 'epochs' is unknown; known: endpoint, models, partitions",
        ),
        (
            [entry(parameters={"models": ["vcop-r3d"], "endpoint": "e", "fold": 3})],
            "parameters: 'fold' belongs under data",
        ),
        ([entry(parameters={"models": ["vcop-r3d"]})], "parameters: 'endpoint' is missing: the pipeline needs it"),
        ([entry(parameters={"models": ["vcop-r3d"], "endpoint": 3})], "parameters: endpoint: 3 is not a str"),
        ([entry(parameters={"models": ["vcop"], "endpoint": "e"})], "parameters: models: model: 'vcop' is not known"),
        (
            [entry(parameters={"models": [{"name": "x", "pretrian": {}}], "endpoint": "e"})],
            "parameters: models: recipe: unknown key 'pretrian'; did you mean 'pretrain'?",
        ),
        (
            [entry(parameters={"models": "vcop-r3d", "endpoint": "e"})],
            "parameters: models: 'vcop-r3d' is not a list of models; such as [pace-r2plus1d]",
        ),
        (
            [entry(parameters={"models": ["vcop-r3d", "vcop-r3d"], "endpoint": "e"})],
            "parameters: models: member: 'vcop-r3d' is there twice",
        ),
        (
            [given(models=["vcop-r3d:pretrain.task=order"])],
            "parameters: models: pretrain.task: 'order' is not known; one of arrow_of_time, ",
        ),
        (
            [given(models=["vcop-r3d", "pace-r2plus1d:pretrain.backbone=r4d"])],
            "parameters: models: pretrain.backbone: 'r4d' is not known; one of ",
        ),
        (
            [given(models=[RECIPE | {"pretrain": RECIPE["pretrain"] | {"task": "order"}}])],
            "parameters: models: pretrain.task: 'order' is not known",
        ),
        (
            [given(models=["vcop-r3d:pretrain.init=weights.pt"])],
            "parameters: models: pretrain.init: 'weights.pt' is relative, and runs are elsewhere: give a whole path, "
            "of "
            "weights or of an earlier run's pointer",
        ),
        (
            [given(models=["vcop-r3d:pretrain.init=s3://b/w.pt"])],
            "parameters: models: pretrain.init: 's3://b/w.pt' is a URL, and only videos are read from one: "
            "give a whole",
        ),
        ([given(models=["mine=vcop-r3d:pretrain={init: w.pt}"])], "models: pretrain.init: 'w.pt' is relative"),
        (
            [given(models=[RECIPE | {"pretrain": RECIPE["pretrain"] | {"init": "w.pt"}}])],
            "models: pretrain.init: 'w.pt' is relative",
        ),
        ([given(models=[RECIPE | {"plugins": ["mine.py"]}])], "models: plugins: 'mine.py' is relative"),
        (
            [given(endpoint="my-endpoint")],
            "nightly': parameters: endpoint: 'my-endpoint' is not allowed; lower-case letters, digits and _",
        ),
        ([given(endpoint="")], "parameters: endpoint: '' is not allowed"),
        ([given(partitions=0)], "parameters: partitions: 0 is not allowed; 1 or more"),
        (
            [entry(data={"videos": "footage"})],
            "data.videos: 'footage' is relative, and runs are elsewhere: give a whole path or a URL",
        ),
        ([entry(data={"videos": ""})], "data.videos: '' is not allowed; a whole path or a URL"),
        ([entry(data={"videos": "/data/videos "})], "data.videos: '/data/videos ' is not allowed; no space before or"),
        ([entry(data={"videos": "/data", "fold": 0})], "data.fold: 0 is not allowed; 1 or more"),
        (
            [entry(data={"videos": "s3://b/videos", "revision": "main"})],
            "data.revision: 'main' with the URL 's3://b/videos': only a folder of a DVC repository has any: "
            "leave it out",
        ),
        (
            [entry(data={"videos": "/data", "labels": "s3://b/labels.csv"})],
            "data.labels: 's3://b/labels.csv' is a URL, and only videos are read from one: give a whole path",
        ),
        (
            [entry(data={"videos": "s3://b", "splits": "https://b/splits"})],
            "data.splits: 'https://b/splits' is a URL, and only videos are read from one: give a whole path",
        ),
        (
            [{"cron": "0 0 2 * * *"}, {"cron": "0 0 3 * * *"}],
            "schedules: number 1: name is missing: give each schedule a name of its own",
        ),
        ([entry(), entry() | {"name": None}], "schedules: number 2: name is missing"),
        (
            [entry(cron="0 0 0 31 2 *")],
            "nightly': cron: '0 0 0 31 2 *' never comes: month 2 has no day 31; one up to 29",
        ),
        ([entry(cron="0 0 0 30 FEB ?")], "never comes: month FEB has no day 30; one up to 29"),
        ([entry(cron="0 0 0 31 2,4,6-11/5 *")], "never comes: month 2,4,6-11/5 has no day 31; one up to 30"),
        ([entry(cron="0 0 0 30/1 2 */2")], "never comes: month 2 has no day 30/1"),
        ([entry(data={"videos": "/data", "revision": "0" * 40})], f"data.revision: '{'0' * 40}' is a commit"),
        ([entry(data={"videos": "/data", "commit": "x"})], "schedule 'nightly': data: unknown key 'commit'"),
        ([entry(data={"videos": "/data", "fold": "one"})], "data: fold: 'one' is not an int"),
        (["nightly"], "schedules: 'nightly' is not a mapping"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "apply", "check"])
def test_a_mistake_is_told_in_one_line_before_any_request(
    entries: list[Any], words: str, verb: str, server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedules", verb, str(written(tmp_path, *entries)), "--host", server.url]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert server.calls == []


def test_a_file_that_is_none_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, right = tmp_path / "broken.yaml", str(written(tmp_path, entry()))
    broken.write_text("schedules: [")

    def told(*arguments: str) -> str:
        assert main(["schedules", "plan", *arguments]) == 2
        return capsys.readouterr().err

    assert "away.yaml' cannot be read (No such file" in told(str(tmp_path / "away.yaml"))
    assert "broken.yaml' is not YAML" in told(str(broken))
    assert "broken.yaml' is no compiled pipeline" in told(right, "--pipeline", str(broken))
    assert "experiment: 'Mine' is not allowed" in told(str(written(tmp_path, entry(), experiment="Mine")))
    assert "unknown key 'owner'" in told(str(written(tmp_path, entry(), owner="x")))


def test_a_key_that_is_there_twice_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_text("experiment: rushes\nschedules:\n- name: nightly\n  cron: 0 0 2 * * *\n  cron: 0 0 3 * * *\n")
    assert main(["schedules", "plan", str(file)]) == 2
    assert "schedules.yaml': line 5: 'cron' is given twice: keep one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cron",
    [
        "0 0 2 * * *",
        "*/15 0,30 8-18/2 1 JAN-mar ?",
        "59 59 23 31 12 sat",
        "0 5/10 * * * 1-5",
        "0 0 0 29 2 *",
        "0 0 0 31 2 MON",
        "0 0 0 30,1 FEB *",
        "0 0 0 31 4-7 *",
        "0 0 0 30 2/5 ?",
    ],
)
def test_six_fields_of_any_form_are_taken(cron: str, tmp_path: Path) -> None:
    (schedule,) = read_schedules(written(tmp_path, entry(cron=cron)), [PIPELINE]).schedules
    assert schedule.cron == cron


def test_no_url_is_asked_for_where_none_is_read() -> None:
    with pytest.raises(UserError, match=r"labels: 'l.csv' is relative, and runs are elsewhere: give a whole path$"):
        check_remote(DataReference(videos="s3://b/videos", labels="l.csv"))


def test_what_a_plugin_defines_is_known_where_its_file_is(tmp_path: Path) -> None:
    own = RECIPE | {"name": "own", "plugins": ["/opt/own.py"], "pretrain": RECIPE["pretrain"] | {"task": "own"}}
    (schedule,) = read_schedules(written(tmp_path, given(models=[own, RECIPE])), [PIPELINE]).schedules
    assert [model["pretrain"]["task"] for model in schedule.arguments["models"]] == ["own", "clip_order"]


def test_weights_are_named_as_the_pods_see_them(tmp_path: Path) -> None:
    file = written(tmp_path, given(models=["vcop-r3d:pretrain.init=/data/weights.pt"]))
    (schedule,) = read_schedules(file, [PIPELINE]).schedules
    assert schedule.arguments["models"][0]["pretrain"]["init"] == "/data/weights.pt"


def test_a_recipe_is_a_model_with_overrides_or_whole(tmp_path: Path) -> None:
    whole = to_record(load_recipe("vcop-r3d", size="cpu"))
    file = written(tmp_path, entry("a"), entry("b", parameters={"endpoint": "e", "models": [whole]}))
    a, b = read_schedules(file, [PIPELINE]).schedules
    assert a.arguments["models"][0]["pretrain"]["epochs"] == 60
    assert b.arguments["models"] == [whole]


# What a server comes to have -----------------------------------------------------------------------------------------


def test_what_is_missing_is_made(server: Kubeflow, applied: Applied, capsys: pytest.CaptureFixture[str]) -> None:
    calls = applied(entry(), entry("hourly", cron="0 0 * * * *", concurrency=3, enabled=False))
    assert calls == [
        "POST /experiments",
        "POST /pipelines",
        "POST /pipelines/upload_version",
        "POST /recurringruns",
        "POST /recurringruns",
    ]
    nightly, hourly = server.named("nightly"), server.named("hourly")
    assert nightly["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert (nightly["mode"], nightly["max_concurrency"], nightly["no_catchup"]) == ("ENABLE", "1", True)
    assert (hourly["mode"], hourly["max_concurrency"]) == ("DISABLE", "3")
    given = nightly["runtime_config"]["parameters"]
    assert (given["videos"], given["revision"], given["endpoint"]) == ("/data/videos", "main", "e")
    assert given["models"][0]["pretrain"]["epochs"] == 60
    version = server.versions[nightly["pipeline_version_reference"]["pipeline_version_id"]]
    assert version["display_name"] == PIPELINE.version and version["description"] == PIPELINE.digest
    assert [experiment["display_name"] for experiment in server.experiments.values()] == ["rushes"]
    assert "create nightly" in " ".join(capsys.readouterr().out.split())


def test_a_second_time_changes_nothing(server: Kubeflow, applied: Applied, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [entry(f"n{number}", enabled=number % 2 == 0) for number in range(5)]  # more than a page
    assert len(applied(*entries)) == 8
    capsys.readouterr()
    assert applied(*entries) == []
    assert "Nothing to do." in capsys.readouterr().out


def test_a_plan_changes_nothing(server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedules", "plan", str(written(tmp_path, entry())), "--host", server.url]) == 0
    shown = capsys.readouterr().out
    assert all(
        f"{kind} {what}" in " ".join(shown.split())
        for kind, what in (
            ("create", "experiment rushes"),
            ("upload", f"pipeline {PIPELINE.version}"),
            ("create", "nightly cron 0 0 2"),
        )
    )
    assert server.calls and server.changes == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cron": "0 0 3 * * *"}, "cron: 0 0 2 * * * -> 0 0 3 * * *"),
        ({"concurrency": 2, "enabled": False}, "concurrency: 1 -> 2; enabled: True -> False"),
        ({"data": {"videos": "/data/videos", "revision": "next"}}, "revision: 'main' -> 'next'"),
        (
            {"parameters": {"endpoint": "e", "models": ["pace-r2plus1d:pretrain.epochs=61"]}},
            "models.pace-r2plus1d.pretrain.epochs: 60 -> 61",
        ),
    ],
)
def test_what_changed_is_made_anew_and_what_is_under_way_goes_on(
    changes: dict[str, Any], told: str, server: Kubeflow, applied: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    applied(entry(), entry("other"))
    before, other = server.named("nightly")["recurring_run_id"], server.named("other")
    run = server.fire("nightly")
    calls = applied(entry(**changes), entry("other"))
    after = server.named("nightly")["recurring_run_id"]
    assert calls == ["POST /recurringruns", f"DELETE /recurringruns/{before}"] and after != before
    assert run in server.runs and server.named("other") == other
    assert f"change nightly {told}" in " ".join(capsys.readouterr().out.split())
    assert applied(entry(**changes), entry("other")) == []


def test_before_2_16_a_changed_schedule_ends_its_runs_and_that_is_said(
    server: Kubeflow, applied: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    server.release = "2.15.0"
    applied(entry())
    run = server.fire("nightly")
    assert "a changed schedule ends the runs that it has started" in " ".join(capsys.readouterr().out.split())
    applied(entry(cron="0 0 3 * * *"))
    assert run not in server.runs


def test_another_pipeline_is_another_version_of_it(
    server: Kubeflow, applied: Applied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    applied(entry())
    changed = tmp_path / "changed.yaml"
    changed.write_text(compiled_pipeline().read_text() + "# another\n")
    pipeline = Pipeline.read(changed)
    file = written(tmp_path, entry(pipeline=pipeline.digest))
    assert main(["schedules", "apply", str(file), "--host", server.url]) == 2, "only what is given by --pipeline"
    assert main(["schedules", "apply", str(file), "--host", server.url, "--pipeline", str(changed)]) == 0
    assert f"pipeline: -> {pipeline.version}" in capsys.readouterr().out
    assert len(server.pipelines) == 1 and len(server.versions) == 2
    reference = server.named("nightly")["pipeline_version_reference"]
    assert server.versions[reference["pipeline_version_id"]]["display_name"] == pipeline.version


def test_a_version_deleted_by_hand_comes_back_with_what_runs_it(server: Kubeflow, applied: Applied) -> None:
    applied(entry())
    server.versions.clear()
    calls = applied(entry())
    assert [call.split("/")[1] for call in calls] == ["pipelines", "recurringruns", "recurringruns"]
    reference = server.named("nightly")["pipeline_version_reference"]
    assert reference["pipeline_version_id"] in server.versions


def test_disabled_and_enabled_again_it_stays_the_same(server: Kubeflow, applied: Applied) -> None:
    applied(entry())
    key = server.named("nightly")["recurring_run_id"]
    assert applied(entry(enabled=False)) == [f"POST /recurringruns/{key}:disable"]
    assert server.named("nightly")["mode"] == "DISABLE"
    assert applied(entry(enabled=False)) == []
    assert applied(entry()) == [f"POST /recurringruns/{key}:enable"]
    assert server.named("nightly")["mode"] == "ENABLE"


def test_what_was_switched_or_deleted_by_hand_is_healed(server: Kubeflow, applied: Applied) -> None:
    applied(entry(), entry("other"))
    key = server.named("nightly")["recurring_run_id"]
    server.named("nightly")["mode"] = "DISABLE"
    assert applied(entry(), entry("other")) == [f"POST /recurringruns/{key}:enable"]
    del server.recurring[key]
    assert applied(entry(), entry("other")) == ["POST /recurringruns"]
    assert server.named("nightly")["recurring_run_id"] != key


def test_what_left_the_file_is_removed_and_what_is_not_ours_is_not_touched(server: Kubeflow, applied: Applied) -> None:
    applied(entry(), entry("gone"))
    ours = server.named("gone")
    theirs = {
        "theirs": ours | {"recurring_run_id": "theirs", "description": "", "display_name": "gone"},
        "cloned": ours | {"recurring_run_id": "cloned", "display_name": "Clone of gone"},
        "wanted": ours | {"recurring_run_id": "wanted", "description": "mine", "display_name": "nightly", "mode": "X"},
    }
    server.recurring |= theirs
    run = {"run_id": "r", "display_name": "gone-1", "recurring_run_id": ours["recurring_run_id"]}
    server.runs["r"] = run
    assert applied(entry()) == [f"DELETE /recurringruns/{ours['recurring_run_id']}"]
    assert {key: server.recurring[key] for key in theirs} == theirs
    assert server.runs == {"r": run}, "a run under way goes on"
    applied()
    assert server.recurring == theirs, "an empty file removes all that is ours"


def test_another_experiment_has_schedules_of_its_own(server: Kubeflow, applied: Applied, tmp_path: Path) -> None:
    applied(entry(), entry("other"))
    file = written(tmp_path, entry(), experiment="team-b")
    assert main(["schedules", "apply", str(file), "--host", server.url]) == 0
    assert sorted(record["display_name"] for record in server.recurring.values()) == ["nightly", "nightly", "other"]
    assert main(["schedules", "apply", str(written(tmp_path, experiment="team-b")), "--host", server.url]) == 0
    assert sorted(record["display_name"] for record in server.recurring.values()) == ["nightly", "other"]


def test_a_refusal_leaves_the_old_one_in_place_and_the_next_time_goes_on(
    server: Kubeflow, applied: Applied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    applied(entry())
    old = server.named("nightly")
    server.faults["POST /recurringruns"] = 503
    arguments = ["schedules", "apply", str(written(tmp_path, entry(concurrency=2))), "--host", server.url]
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "change nightly: Kubeflow Pipelines refused (503): out of order" in line
    assert server.named("nightly") == old
    assert main(arguments) == 0
    assert server.named("nightly")["max_concurrency"] == "2"


def test_of_two_that_a_died_or_a_racing_process_left_one_is_removed(server: Kubeflow, applied: Applied) -> None:
    applied(entry())
    key = server.named("nightly")["recurring_run_id"]
    server.recurring["again"] = server.named("nightly") | {"recurring_run_id": "again"}
    server.recurring["stale"] = server.recurring[key] | {"recurring_run_id": "stale", "max_concurrency": "9"}
    assert applied(entry()) == ["DELETE /recurringruns/again", "DELETE /recurringruns/stale"]
    assert list(server.recurring) == [key]


def test_nobody_at_the_address_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedules", "plan", str(written(tmp_path, entry())), "--host", "http://127.0.0.1:9"]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert "Kubeflow Pipelines does not answer" in line and "give --host URL" in line
    assert captured.out == ""


# The stand-in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cron": "x"}, r"V2beta1RecurringRun\.cron"),
        ({"display_name": 3}, r"display_name: 3 is not str"),
        ({"max_concurrency": 1.5}, r"max_concurrency: 1\.5"),
        ({"mode": "ON"}, r"mode: 'ON' is not one of"),
        ({"no_catchup": 1}, r"no_catchup: 1 is not bool"),
        ({"trigger": {"cron_schedule": {"cron": "x", "zone": "UTC"}}}, r"trigger\.cron_schedule\.zone"),
        ({"runtime_config": {"parameters": [1]}}, r"runtime_config\.parameters"),
    ],
)
def test_the_stand_in_refuses_what_the_models_do_not_have(change: dict[str, Any], words: str) -> None:
    right = {
        "display_name": "n",
        "max_concurrency": 1,
        "mode": "ENABLE",
        "no_catchup": True,
        "trigger": {"cron_schedule": {"cron": "x"}},
        "runtime_config": {"parameters": {"recipe": {"a": [1, None]}}},
    }
    conform(right, "V2beta1RecurringRun", "V2beta1RecurringRun")
    with pytest.raises(RefusedError, match=words):
        conform(right | change, "V2beta1RecurringRun", "V2beta1RecurringRun")
