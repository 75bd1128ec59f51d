"""A pod's token goes with each request to a server that is named, and what is made is in the profile's namespace."""

from pathlib import Path

import pytest

from rushes.kubeflow.client import connect, quiet, server_url
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.compiled import Pipeline
from rushes.orchestration.local import compiled_pipeline
from tests.kubeflow.server import Kubeflow, serving


def provided(folder: Path, monkeypatch: pytest.MonkeyPatch, *, token: str = "", namespace: str = "") -> Kubeflow:
    """A server that was given an experiment and a pipeline, as from a pod with that token and setting."""
    if token:
        (folder / "token").write_text(token)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setenv("RUSHES_KFP_NAMESPACE", namespace)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(folder / "context.json"))  # not this machine's own
    with serving() as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        Cluster("", experiment="rushes").provide(Pipeline.read(compiled_pipeline()))
    return server


def test_a_pods_token_goes_with_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = provided(tmp_path, monkeypatch, token="of-the-pod\n")
    assert server.credentials and set(server.credentials) == {"Bearer of-the-pod"}


def test_where_there_is_no_token_none_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = provided(tmp_path, monkeypatch)
    assert server.credentials and set(server.credentials) == {None}


def test_a_token_that_was_renewed_is_the_one_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    with serving() as server:
        cluster = Cluster(server.url, experiment="rushes")
        token.write_text("second")
        cluster.experiment_id()
    assert server.credentials[-1] == "Bearer second"


@pytest.mark.parametrize("namespace", ["", "team"])
def test_what_is_made_is_in_the_profiles_namespace(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = provided(tmp_path, monkeypatch, namespace=namespace)
    made = [*server.experiments.values(), *server.pipelines.values()]
    assert [record.get("namespace") or "" for record in made] == [namespace] * 2


def test_in_a_pod_the_clusters_own_server_is_asked_whatever_the_users_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("RUSHES_KFP_NAMESPACE", "team")
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with quiet():
        client = connect("")
    assert (client._existing_config.host, client.get_user_namespace()) == (own, "team")
    monkeypatch.delenv("RUSHES_KFP_NAMESPACE")
    assert server_url("") == own
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://named")
    assert (server_url(""), server_url("http://given")) == ("http://named", "http://given")
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert server_url("") == ""
