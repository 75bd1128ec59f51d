"""Profiles: strict, and a mistake is told with file and field."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from rushes.cli import main
from rushes.errors import UserError
from rushes.kubeflow.profile import Gpu, Profile, Resources, Toleration, read_profile


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_those_that_come_along_are_read_by_name(name: str) -> None:
    profile = read_profile(name)
    assert profile.name == name
    assert profile.secrets and profile.settings.keys


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "null"])
def test_an_empty_file_is_a_profile(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert read_profile(str(tmp_path / "mine.yaml")) == Profile(name="mine")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "image: r.example.com/rushes@sha256:" + "a" * 64 + "\n"
        "gpu: {count: 2, tolerations: [{key: pool, operator: Equal, value: gpu}], node_selector: {zone: b}}\n"
        "volumes: {data: /data}\nretry: {count: 5, wait: 10s}\n"
    )
    profile = read_profile(str(file))
    assert (profile.gpu.count, profile.gpu.tolerations[0].value, profile.gpu.node_selector) == (2, "gpu", {"zone": "b"})
    assert (profile.volumes, profile.retry.count, profile.retry.wait) == ({"data": "/data"}, 5, "10s")


def test_what_is_allowed_is_compiled(tmp_path: Path) -> None:
    profile, out = tmp_path / "mine.yaml", tmp_path / "pipeline.yaml"
    most = 2**31 - 1
    profile.write_text(
        f'light: {{cpu: "0.5", memory: 512Mi, timeout_minutes: {most // 60}}}\n'
        'cpu: {cpu: 1500m, memory: "1000000000"}\n'
        f'train: {{cpu: "{10**9 - 1}.125", memory: 16G}}\nuser: {most}\npartitions: {most}\nparallel: {most}\n'
        f"retry: {{count: 1, wait: {10**9 - 1}s, pending_minutes: 1}}\n"
        f"gpu: {{count: {most}, shared_memory: 1.5Gi, node_selector: {{example.com/gpus: '8'}}, tolerations: "
        "[{key: '', operator: Exists}, {key: pool, operator: Equal}]}\n"
        "volumes: {a: /cache, b: /cache/inner}\nlabels: {team: '', cost.example.com/center: R-7.a_b}\n"
    )
    assert main(["pipeline", "compile", "--profile", str(profile), "--out", str(out)]) == 0


@pytest.mark.parametrize(
    ("cpu", "memory", "cores", "size"),
    [
        ("0.5", "512Mi", 0.5, 2**29),
        ("500m", "1000000000", 0.5, 1e9),
        ("12", "1T", 12.0, 1e12),
        ("0.001", "8Ki", 0.001, 2**13),
    ],
)
def test_what_is_allowed_is_read_as_a_number(cpu: str, memory: str, cores: float, size: float) -> None:
    resources = Resources(cpu=cpu, memory=memory)
    assert [float(parse_quantity(text)) for text in (resources.cpu, resources.memory)] == [cores, size]
    assert parse_quantity(Gpu(shared_memory="1.5Gi").shared_memory) == 1.5 * 2**30


QUANTITIES = st.text("0123456789.eE+-kKmMGTPiun \n", max_size=8) | st.sampled_from(
    ["1e3", "-1", "+1", "1.1.1", "1Qi", "1Gib", "0x10", "NaN", "Infinity", "\N{FULLWIDTH DIGIT ONE}", "1_000", "1\n"]
)


@given(text=QUANTITIES)
@example(text="4")
@example(text="16Gi")
@pytest.mark.parametrize("field", ["cpu", "memory", "shared_memory"])
def test_what_the_kubernetes_client_does_not_read_is_refused(field: str, text: str) -> None:
    make: Callable[..., object] = Gpu if field == "shared_memory" else Resources
    try:
        make(**{field: text})
    except UserError as error:
        assert f"{field}: {text!r} is not allowed; " in str(error)
    else:
        assert parse_quantity(text) > 0


def test_no_key_and_any_value_is_every_taint() -> None:
    assert Toleration(key="").value is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imgae: x", "profile mine.yaml: unknown key 'imgae'; did you mean 'image'?"),
        ("image: rushes/python:latest", "profile mine.yaml: image: 'rushes/python:latest' is not allowed, since a tag"),
        ("image: host:5000/rushes:1", "image: 'host:5000/rushes:1' is not allowed"),
        ("user: 0", "user: 0 is not allowed; the UID of somebody who is not root"),
        ("retry: {count: 0}", "retry: count: 0 is not allowed"),
        ("retry: {wait: 1 minute}", "retry: wait: '1 minute' is not allowed"),
        ("gpu: {count: -1}", "gpu: count: -1 is not allowed"),
        ("gpu: {shared_memory: lots}", "gpu: shared_memory: 'lots' is not allowed"),
        ("gpu: {tolerations: [{key: a, effect: Never}]}", "effect: 'Never' is not allowed; one of NoSchedule"),
        ("train: {memory: 16 GB}", "memory: '16 GB' is not allowed"),
        ("light: {timeout_minutes: 0}", "timeout_minutes: 0 is not allowed"),
        ("volumes: {cache: cache}", "volumes: cache: 'cache' is not allowed; a whole path"),
        ("train: {memory: 16.5Gi}", "memory: '16.5Gi' is not allowed; a whole number and a unit, such as 16Gi"),
        ("train: {memory: 16000K}", "memory: '16000K' is not allowed"),
        ("train: {memory: 500m}", "memory: '500m' is not allowed"),
        ("cpu: {cpu: 4Gi}", "cpu: '4Gi' is not allowed; cores, such as 4, 0.5 or 500m"),
        ("cpu: {cpu: '0.0'}", "cpu: '0.0' is not allowed"),
        ("cpu: {cpu: .5m}", "cpu: '.5m' is not allowed"),
        ("cpu: {timeout_minutes: 35791395}", "timeout_minutes: 35791395 is not allowed; 1 to 35791394"),
        ("labels: {a: 1}", "labels: a: 1 is not allowed; text: write it in quotes"),
        ("labels: {a: two words}", "labels: a: 'two words' is not allowed; up to 63 letters, digits"),
        ("labels: {two words: a}", "labels: 'two words' is not allowed; a label's name"),
        ("gpu: {node_selector: {gpus: 8}}", "gpu: node_selector: gpus: 8 is not allowed; text: write it in quotes"),
        (
            "user: 99999999999999999999",
            "user: 99999999999999999999 is not allowed; the UID of somebody who is not root, 1 to 2147483647",
        ),
        ("retry: {count: 31}", "retry: count: 31 is not allowed; since nodes may go away, 1 to 30"),
        ("retry: {wait: 9999999999s}", "retry: wait: '9999999999s' is not allowed; seconds, such as 60s, of at"),
        ("retry: {longest: 600s}", "unknown key 'longest'"),
        ("retry: {pending_minutes: 0}", "retry: pending_minutes: 0 is not allowed; 1 to 35791394"),
        ("gpu: {count: 99999999999}", "gpu: count: 99999999999 is not allowed; 0 to 2147483647"),
        ("parallel: 99999999999", "parallel: 99999999999 is not allowed; 1 to 2147483647"),
        ("partitions: 0", "partitions: 0 is not allowed; 1 to 2147483647"),
        (
            "gpu: {tolerations: [{key: pool, value: gpu}]}",
            "gpu: tolerations: value: 'gpu' is not allowed with operator "
            "Exists, which takes any: leave it out, or write operator: Equal",
        ),
        ("gpu: {tolerations: [{key: '', operator: Equal}]}", "gpu: tolerations: key: '' is not allowed"),
        ("volumes: {a: 1}", "volumes: a: 1 is not allowed; a whole path"),
        ("volumes: {a: 's3://b/c'}", "volumes: a: 's3://b/c' is not allowed; a whole path"),
        ("volumes: {a: /c, b: /c/}", "volumes: b: '/c/' is not allowed; it is where a is mounted"),
        (
            "volumes: {a: /dev/shm}",
            "volumes: a: '/dev/shm' is not allowed; it is where training's shared memory is mounted",
        ),
        (
            "volumes: {a: /tmp/}",
            "volumes: a: '/tmp/' is not allowed; it is where a volume of Kubeflow Pipelines' own is",
        ),
        ("volumes: {a: /.cache}", "volumes: a: '/.cache' is not allowed; it is where a volume of Kubeflow"),
        ("volumes: {a: /var//run/argo}", "it is where a volume of Kubeflow Pipelines' own is mounted"),
        ("gpu: {count: 1}\nlabels: {a: b}\ngpu: {count: 2}", "line 3: 'gpu' is given twice: keep one"),
        ("gpu: {count: 1, count: 2}", "line 1: 'count' is given twice: keep one"),
        ("secrets:\n- {name: a, name: b}", "line 2: 'name' is given twice"),
        ("labels: {on: call}", "line 1: the key 'on' is not text: write it in quotes"),
        ("name: 2026-13-01", "is not YAML: month must be in 1..12"),
        ("- a", "holds list, not fields"),
        ("[]", "holds list, not fields"),
        ("false", "holds bool, not fields"),
        ("image: [", "is not YAML"),
    ],
)
def test_a_mistake_names_the_file_the_field_and_the_value(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as told:
        read_profile(str(file))
    assert words in str(told.value) and "mine.yaml" in str(told.value)
    assert "\n" not in str(told.value)


def test_keys_that_are_merged_may_be_set_again_and_a_list_may_hold_itself(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("light: &light {cpu: '2', memory: 4Gi}\ncpu: {<<: *light, cpu: '4'}\n")
    profile = read_profile(str(file))
    assert (profile.cpu.cpu, profile.cpu.memory) == ("4", "4Gi")
    file.write_text("secrets: &all [*all]\n")
    with pytest.raises(UserError, match="secrets"):
        read_profile(str(file))


def test_one_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"profile: 'nope' cannot be read .*: cpu, gpu, or a file.yaml"):
        read_profile("nope")


@pytest.mark.parametrize(
    "path",
    ["/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config", "/kfp-launcher", "/var/run/argo", "/tmp", "/dev/shm"],
)
def test_no_volume_is_mounted_where_a_pod_has_one_already(path: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for written in (path, f"{path}/", f"/{path[1:].replace('/', '//')}"):
        file.write_text(f"volumes: {{archive: {written}}}")
        with pytest.raises(UserError, match=f"volumes: archive: '{re.escape(written)}' is not allowed; it is where"):
            read_profile(str(file))
    file.write_text(f"volumes: {{archive: {path}-of-ours}}")
    assert read_profile(str(file)).volumes == {"archive": f"{path}-of-ours"}
