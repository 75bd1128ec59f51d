"""deploy/kubernetes: renders, fits the schemas of Kubernetes and of the operators, and keeps to the rules.

No cluster is asked: what is checked is what a cluster would be given.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kfp.client import KF_PIPELINES_SA_TOKEN_PATH

from components.image import IMAGE
from rushes.cli import COMMANDS, main, parse
from rushes.kubeflow.profile import read_profile
from rushes.serving.control_key import CLOSED_APIS, FLAGS, HEADER, KEY_VARIABLE
from rushes.serving.environment import environment_folder, is_ready, site_packages
from rushes.serving.request import LIMITS
from rushes.tracking.same_origin import APP_NAME
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    REPOSITORY,
    RULES,
    Resource,
    containers,
    kubectl,
    named,
    rendered,
    templates,
)

RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text().replace("\\\n", " ")
SCHEMAS = Path(__file__).parent / "schemas"
VERSION = "1.33"
"""The oldest Kubernetes that the manifests are for: the first with sidecars for good."""

Change = Callable[[list[Resource]], object]


def fit(resources: list[Resource]) -> None:
    """Raises unless every resource is what its kind's schema says, with no field besides."""
    for resource in resources:
        _fit(json.dumps(resource))


@functools.cache  # overlays share most of their resources, and a look takes a second
def _fit(text: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="`make install` brings it")
    jsonschema = pytest.importorskip("jsonschema", reason="`make install` brings it")
    resource = json.loads(text)
    schema = SCHEMAS / f"{resource['kind']}.json"
    if schema.is_file():
        jsonschema.validate(resource, json.loads(schema.read_text()))
    else:
        kubernetes_validate.validate(resource, VERSION, strict=True)


def pod(resources: list[Resource], kind: str, name: str) -> Any:
    return named(resources, kind, name)["spec"]["template"]["spec"]


def triton(resources: list[Resource]) -> Any:
    return pod(resources, "Deployment", "triton")


# Schemas -------------------------------------------------------------------------------------------------------------


def test_every_folder_is_an_overlay_that_is_tested() -> None:
    assert {path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml")} == {"base", *OVERLAYS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_fits_the_schemas(overlay: str) -> None:
    resources = rendered(overlay)
    fit(resources)
    names = [(r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"]) for r in resources]
    assert len(set(names)) == len(names)
    assert all(namespace for kind, namespace, _ in names if kind != "Namespace")


REQUIRED = {
    "Deployment": ["spec.selector", "spec.template"],
    "StatefulSet": ["spec.selector", "spec.template"],
    "CronJob": ["spec.schedule", "spec.jobTemplate"],
    "Service": ["spec.ports.0.port"],
    "HorizontalPodAutoscaler": ["spec.maxReplicas", "spec.scaleTargetRef", "spec.metrics.0.type"],
    "RoleBinding": ["roleRef", "subjects.0.name"],
    "Role": ["rules.0.verbs"],
    "ServiceMonitor": ["spec.endpoints", "spec.selector", "metadata.name"],
}
"""Kind to fields that a cluster refuses it without."""
WHERE = {
    "HorizontalPodAutoscaler": "production",
    "ServiceMonitor": "production",
    "Role": "pipelines",
    "RoleBinding": "pipelines",
}
"""The overlay that has the kind, if small has not."""


@pytest.mark.parametrize(
    ("overlay", "kind", "field"),
    [
        (overlay, kind, field)
        for kind, fields in REQUIRED.items()
        for field in fields
        for overlay in OVERLAYS
        if overlay == WHERE.get(kind, "small")
    ],
)
def test_without_a_required_field_it_does_not_fit(overlay: str, kind: str, field: str) -> None:
    resources = rendered(overlay)
    broken: Any = next(r for r in resources if r["kind"] == kind)
    *parents, last = field.split(".")
    part = broken
    for parent in parents:
        part = part[int(parent) if parent.isdecimal() else parent]
    del part[last]
    with pytest.raises(Exception, match=f"'{last}' is a required property"):
        fit([broken])


@pytest.mark.parametrize(
    ("overlay", "change"),
    [
        ("small", lambda r: triton(r).update(terminationGracePeriod=5)),
        ("small", lambda r: triton(r)["containers"][0].update(imagePullPolicy=True)),
        ("small", lambda r: triton(r)["containers"][0]["livenessProbe"].update(failureTreshold=3)),
        ("production", lambda r: named(r, "ServiceMonitor", "triton")["spec"]["endpoints"][0].update(intervall="5s")),
        ("production", lambda r: named(r, "ServiceMonitor", "triton")["spec"]["endpoints"][0].update(interval="5 s")),
        ("production", lambda r: named(r, "HorizontalPodAutoscaler", "triton")["spec"].update(minReplica=2)),
    ],
)
def test_a_slip_of_the_pen_does_not_fit(overlay: str, change: Change) -> None:
    resources = rendered(overlay)
    change(resources)
    with pytest.raises(Exception, match=r"unexpected|is not of type|does not match|is not valid"):
        fit(resources)


# Rules ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", RULES)
def test_an_overlay_keeps_to_the_rules(overlay: str, rule: str) -> None:
    assert RULES[rule](rendered(overlay)) == []


def without(resources: list[Resource], kind: str, name: str) -> None:
    resources.remove(named(resources, kind, name))


def scaled(resources: list[Resource]) -> Any:
    return named(resources, "HorizontalPodAutoscaler", "triton")["spec"]["scaleTargetRef"]


OTHER = {"app.kubernetes.io/name": "other"}
BROKEN: dict[str, list[tuple[str, Change]]] = {
    "no_pod_is_root": [
        ("small", lambda r: triton(r)["securityContext"].pop("runAsNonRoot")),
        ("small", lambda r: triton(r)["securityContext"].update(runAsUser=0)),
        ("small", lambda r: triton(r)["securityContext"].pop("seccompProfile")),
        ("small", lambda r: triton(r)["containers"][0].pop("securityContext")),
        ("small", lambda r: triton(r)["initContainers"][0]["securityContext"].update(readOnlyRootFilesystem=False)),
        ("small", lambda r: pod(r, "StatefulSet", "postgres")["containers"][0]["securityContext"].pop("capabilities")),
    ],
    "no_image_changes": [
        ("small", lambda r: triton(r)["containers"][0].update(image="rushes/triton")),
        ("small", lambda r: triton(r)["containers"][0].update(image="rushes/triton:latest")),
        ("small", lambda r: triton(r)["initContainers"][0].update(image="rushes/triton:main")),
        ("small", lambda r: pod(r, "StatefulSet", "postgres")["containers"][0].update(image="postgres:17")),
    ],
    "secrets_are_references": [
        ("small", lambda r: triton(r)["containers"][0]["env"].append({"name": KEY_VARIABLE, "value": "x"})),
        ("small", lambda r: named(r, "ConfigMap", "rushes-settings")["data"].update(URL="postgresql://m:pw@db/mlflow")),
        ("small", lambda r: r.append({"kind": "Secret", "metadata": {"name": "mine"}, "data": {}})),
    ],
    "everything_is_bounded": [
        ("small", lambda r: triton(r)["containers"][0].pop("resources")),
        ("small", lambda r: triton(r)["initContainers"][0]["resources"]["limits"].pop("memory")),
        ("small", lambda r: triton(r)["volumes"][0].update(emptyDir={})),
    ],
    "every_pod_has_its_policy": [
        ("small", lambda r: without(r, "NetworkPolicy", "deny-all")),
        ("small", lambda r: without(r, "NetworkPolicy", "postgres")),
        ("production", lambda r: named(r, "NetworkPolicy", "triton")["spec"]["ingress"][0].pop("from")),
        ("production", lambda r: named(r, "NetworkPolicy", "object-store")["spec"]["egress"][0].pop("ports")),
    ],
    "nobody_holds_a_token": [
        ("small", lambda r: triton(r).pop("automountServiceAccountToken")),
        ("small", lambda r: triton(r).pop("serviceAccountName")),
        ("small", lambda r: named(r, "ServiceAccount", "mlflow").pop("automountServiceAccountToken")),
        ("small", lambda r: triton(r).update(hostNetwork=True)),
        ("pipelines", lambda r: named(r, "Role", "rushes-schedules")["rules"][0].update(verbs=["*"])),
    ],
    "names_meet": [
        ("small", lambda r: triton(r)["volumes"].pop()),
        ("small", lambda r: triton(r)["containers"][0]["ports"].pop()),
        ("small", lambda r: named(r, "ConfigMap", "rushes-settings")["data"].pop("RUSHES_STORE")),
        ("small", lambda r: without(r, "PersistentVolumeClaim", "schedules")),
        ("production", lambda r: scaled(r).update(name="x")),
        ("small", lambda r: named(r, "PodDisruptionBudget", "triton")["spec"]["selector"].update(matchLabels=OTHER)),
        ("production", lambda r: named(r, "ServiceMonitor", "triton")["spec"]["endpoints"][0].update(port="metric")),
    ],
}


@pytest.mark.parametrize(
    ("rule", "overlay", "change"),
    [(rule, overlay, change) for rule, cases in BROKEN.items() for overlay, change in cases],
)
def test_a_rule_that_is_broken_is_noticed(rule: str, overlay: str, change: Change) -> None:
    resources = rendered(overlay)
    change(resources)
    assert RULES[rule](resources) != []


def test_every_rule_is_broken_somewhere() -> None:
    assert set(BROKEN) == set(RULES)


# Triton --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_a_replica_is_ready_when_the_reconciler_says_so_and_ends_when_nobody_asks(overlay: str) -> None:
    spec = triton(rendered(overlay))
    reconciler, server = spec["initContainers"][0], spec["containers"][0]
    assert reconciler["restartPolicy"] == "Always" and reconciler["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert reconciler["startupProbe"]["httpGet"]["path"] == "/live" and "readinessProbe" not in server
    assert "--host=0.0.0.0" in reconciler["command"], "the kubelet calls from outside the pod"
    drain: Any = parse(server["lifecycle"]["preStop"]["exec"]["command"][1:])
    (wait,) = (a.split("=")[1] for a in server["command"] if a.startswith("--exit-timeout-secs="))
    assert spec["terminationGracePeriodSeconds"] >= drain.limit + float(wait) + 10
    homes = {
        mount["name"]: mount.get("readOnly", False)
        for container in (reconciler, server)
        for mount in container["volumeMounts"]
        if mount["mountPath"] == "/var/lib/rushes"
    }
    assert homes == {"home": True}, "one volume for both, and Triton only reads it"


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_loading_needs_the_key_that_the_reconciler_has(overlay: str) -> None:
    spec = triton(rendered(overlay))
    keys = [
        variable["valueFrom"]["secretKeyRef"]
        for container in (*spec["initContainers"], *spec["containers"])
        for variable in container["env"]
        if variable["name"] == KEY_VARIABLE
    ]
    assert len(keys) == 2 and keys[0] == keys[1]
    for flag in FLAGS:
        (value,) = (a.split("=", 1)[1] for a in spec["containers"][0]["command"] if a.startswith(flag))
        closed, key = value.split(":")
        assert closed == ",".join(CLOSED_APIS), "as on one machine"
        assert key == f"{HEADER}=$({KEY_VARIABLE})"


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_what_the_reconciler_fetches_fits_beside_what_it_serves(overlay: str) -> None:
    spec = triton(rendered(overlay))
    (home,) = (volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "home")
    cache = {v["name"]: v.get("value") for v in spec["initContainers"][0]["env"]}["RUSHES_CACHE_GB"]
    assert float(cache) <= int(home.removesuffix("Gi")) / 4, "three versions, and the cache"


@pytest.mark.parametrize("overlay", ["small", "production"])
@pytest.mark.parametrize("name", ["mlflow", "triton"])
def test_a_rollout_has_the_time_that_the_runbook_waits_for_it(overlay: str, name: str) -> None:
    limit = named(rendered(overlay), "Deployment", name)["spec"].get("progressDeadlineSeconds", 600)
    waits = re.findall(rf"rollout status deployment/{name} --timeout (\d+)m", RUNBOOK)
    assert waits and all(60 * int(minutes) == limit for minutes in waits)


def test_the_runbooks_patch_for_a_fixed_pool_of_gpus_replaces_a_pod_in_its_place(tmp_path: Path) -> None:
    (patch,) = re.findall(r"(?ms)^ *```yaml\n( *- target: .*?)^ *```$", RUNBOOK)
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    kustomization = tmp_path / "kubernetes" / "production" / "kustomization.yaml"
    record = yaml.safe_load(kustomization.read_text())
    record["patches"] += yaml.safe_load(patch)
    kustomization.write_text(yaml.safe_dump(record))
    argv = [kubectl(), "kustomize", str(kustomization.parent)]
    made = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    resources = [resource for resource in yaml.safe_load_all(made) if resource]
    strategy = named(resources, "Deployment", "triton")["spec"]["strategy"]
    assert strategy == {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


NEWER_FLAGS = {"--http-max-input-size"}
"""Flags of the image's release (2.59 brought this one) which the laptop's Triton does not have yet."""


def test_a_body_that_holds_the_largest_video_is_not_refused_unread() -> None:
    """Releases from 2.59 on refuse bodies of more than 64 MiB by themselves, and a body is more than its video."""
    command = triton(rendered("production"))["containers"][0]["command"]
    (limit,) = (int(a.split("=")[1]) for a in command if a.startswith("--http-max-input-size="))
    assert LIMITS.max_bytes + (1 << 16) <= limit <= LIMITS.max_bytes + (1 << 20)


def test_triton_knows_its_flags() -> None:
    if not is_ready():
        pytest.skip("no Triton here: `make demo` or the serving tests bring it")
    packages = site_packages(environment_folder())
    binary = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    libraries = {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}
    told = subprocess.run(
        [str(binary), "--help"], capture_output=True, text=True, env=libraries, timeout=60, check=False
    )
    for argument in triton(rendered("production"))["containers"][0]["command"][1:]:
        flag = argument.split("=")[0]
        known = re.search(rf"(?m)^  {flag}( <|$)", told.stdout + told.stderr)
        assert bool(known) != (flag in NEWER_FLAGS), argument


def test_production_grows_with_what_waits_and_spreads_over_zones() -> None:
    resources = rendered("production")
    (metric,) = named(resources, "HorizontalPodAutoscaler", "triton")["spec"]["metrics"]
    values = yaml.safe_load((KUBERNETES / "production" / "metrics-adapter-values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"] and re.match(
        rule["name"]["matches"], rule["name"]["as"]
    )
    url = urlsplit(values["prometheus"]["url"])
    scraped_by = named(resources, "NetworkPolicy", "triton")["spec"]["ingress"][1]["from"][0]["namespaceSelector"]
    assert url.hostname and url.hostname.split(".")[1:] == [*scraped_by["matchLabels"].values(), "svc"]
    assert "replicas" not in named(resources, "Deployment", "triton")["spec"], "an apply would undo the autoscaler's"
    keys = [constraint["topologyKey"] for constraint in triton(resources)["topologySpreadConstraints"]]
    assert sorted(keys) == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    resources_of_triton = triton(resources)["containers"][0]["resources"]
    assert resources_of_triton["limits"]["nvidia.com/gpu"] == resources_of_triton["requests"]["nvidia.com/gpu"] == "1"
    assert {"name": "RUSHES_TRITON_GPU", "value": "1"} in triton(resources)["initContainers"][0]["env"]
    assert "nvidia.com/gpu" not in triton(rendered("small"))["containers"][0]["resources"]["limits"]


# The network ---------------------------------------------------------------------------------------------------------


def test_names_are_asked_of_the_cluster_and_of_the_node() -> None:
    (rule,) = named(rendered("small"), "NetworkPolicy", "names")["spec"]["egress"]
    cluster, node = rule["to"]
    assert cluster["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert node == {"ipBlock": {"cidr": "169.254.20.10/32"}}, "NodeLocal DNSCache"
    assert {(p["port"], p["protocol"]) for p in rule["ports"]} == {(53, "UDP"), (53, "TCP")}


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_kubeflow_lets_the_check_in_that_goes_out_to_it(overlay: str) -> None:
    resources = rendered(overlay)
    (into,) = named(rendered("kubeflow"), "NetworkPolicy", "rushes-schedules")["spec"]["ingress"]
    target = rendered("kubeflow")[0]
    policy = named(resources, "NetworkPolicy", "schedules")
    (out,) = policy["spec"]["egress"]
    (to,), (source,) = out["to"], into["from"]
    assert out["ports"] == into["ports"] == [{"port": 8888, "protocol": "TCP"}]
    namespace = "kubernetes.io/metadata.name"
    assert to["namespaceSelector"]["matchLabels"] == {namespace: target["metadata"]["namespace"]}
    assert to["podSelector"] == target["spec"]["podSelector"]
    assert source["namespaceSelector"]["matchLabels"] == {namespace: policy["metadata"]["namespace"]}
    assert source["podSelector"] == policy["spec"]["podSelector"]
    template = named(resources, "CronJob", "schedules-check")["spec"]["jobTemplate"]["spec"]["template"]
    assert source["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert "kubectl apply -k deploy/kubernetes/kubeflow" in RUNBOOK


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_those_come_in_whose_namespaces_the_runbook_labels(overlay: str) -> None:
    resources = rendered(overlay)
    labelled = re.findall(r"kubectl label namespace \S+ (rushes/\w+)=(true)", RUNBOOK)
    pipelines, clients = (("rushes/pipelines", "true"), ("rushes/clients", "true"))
    assert sorted(labelled) == sorted([pipelines, clients])
    assert _comers(resources, "mlflow") == {pipelines: [5000]}
    prometheus = ("kubernetes.io/metadata.name", "monitoring")
    assert _comers(resources, "triton") == {clients: [8000, 8001], prometheus: [8002], pipelines: [8080]}


def _comers(resources: list[Resource], name: str) -> dict[tuple[str, str], list[int]]:
    """The label of the namespaces that a policy lets in, to the ports."""
    rules = named(resources, "NetworkPolicy", name)["spec"]["ingress"]
    return {
        label: [port["port"] for port in rule["ports"]]
        for rule in rules
        for source in rule["from"]
        for label in source["namespaceSelector"]["matchLabels"].items()
    }


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_mlflow_answers_to_the_name_that_pods_know_and_refuses_other_pages(overlay: str) -> None:
    (container,) = pod(rendered(overlay), "Deployment", "mlflow")["containers"]
    host = urlsplit(named(rendered("pipelines"), "ConfigMap", "rushes-settings")["data"]["MLFLOW_TRACKING_URI"]).netloc
    flags = dict(argument.split("=", 1) for argument in container["command"] if "=" in argument)
    assert flags["--app-name"] == APP_NAME
    assert host in flags["--allowed-hosts"].split(",") and "*" not in flags["--allowed-hosts"]


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_the_object_stores_port_is_open(overlay: str) -> None:
    resources = rendered(overlay)
    url = urlsplit(named(resources, "ConfigMap", "rushes-settings")["data"]["AWS_ENDPOINT_URL"])
    rules = named(resources, "NetworkPolicy", "object-store")["spec"]["egress"]
    opened = [p["port"] for rule in rules for p in rule["ports"]]
    assert (url.port or {"https": 443, "http": 80}[url.scheme]) in opened


def test_the_example_of_a_store_in_the_cluster_fits_the_schema() -> None:
    """The policy's comment, with its marks taken off."""
    text = (KUBERNETES / "base" / "network.yaml").read_text()
    (example,) = re.findall(r"(?m)^#   - to:\n(?:#    .*\n)+", text)
    resources = rendered("small")
    policy = named(resources, "NetworkPolicy", "object-store")
    policy["spec"]["egress"] += yaml.safe_load(re.sub(r"(?m)^#", "", example))
    fit([policy])
    assert RULES["every_pod_has_its_policy"](resources) == []


# With the rest of the repository -------------------------------------------------------------------------------------


def test_the_commands_exist() -> None:
    for overlay in ("small", "production"):
        for name, container in containers(rendered(overlay)):
            command = container.get("command", [])
            if command[:2] == ["rushes", "schedules"] and "schedules check" not in COMMANDS:
                continue
            if command[:1] == ["rushes"]:
                assert parse(command[1:]), name


def test_the_pipelines_run_in_the_image_that_is_deployed() -> None:
    images = {container["image"].partition(":")[0] for _, container in containers(rendered("small"))}
    assert all(
        any(image.endswith(f"/{name}") for image in images) for name in (IMAGE, IMAGE.replace("python", "triton"))
    )


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_an_overlay_says_where_each_of_its_images_is(overlay: str) -> None:
    entries = yaml.safe_load((KUBERNETES / overlay / "kustomization.yaml").read_text())["images"]
    places = {entry.get("newName", entry["name"]) for entry in entries}
    images = {re.split(r"[@:]", container["image"])[0] for _, container in containers(rendered(overlay))}
    assert images == places
    ours = [entry for entry in entries if entry["name"].startswith("rushes/")]
    assert ours and all("." in entry["newName"].split("/")[0] for entry in ours), "a registry's host, to be edited"


def test_what_the_runbook_installs_it_removes() -> None:
    installed, removed = RUNBOOK.split("## Remove")
    for overlay in re.findall(r"kubectl apply -k deploy/kubernetes/([\w$]+)", installed):
        assert f"kubectl delete -k deploy/kubernetes/{overlay}" in removed
    kinds = {"PersistentVolumeClaim": "pvc"}
    made = [(resource["kind"], resource["metadata"]["name"]) for resource in rendered("pipelines")]
    made += [("Secret", name) for name in re.findall(r"-n \$PIPELINES create secret generic (\S+)", installed)]
    assert [f"{kind}/{name}" for kind, name in made if f" {kinds.get(kind, kind.lower())}/{name}" not in removed] == []


def test_the_runbook_makes_every_secret_that_is_referenced() -> None:
    for overlay in ("small", "production"):
        for _, container in containers(rendered(overlay)):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    made = re.findall(rf"create secret generic {reference['name']} .*", RUNBOOK)
                    assert any(f"={reference['key']}=" in line or f"={reference['key']}'" in line for line in made), (
                        reference
                    )


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_the_namespace_of_the_pipelines_has_what_a_profile_refers_to(name: str) -> None:
    profile, resources = read_profile(name), rendered("pipelines")
    settings = named(resources, "ConfigMap", profile.settings.name)["data"]
    assert set(profile.settings.keys) <= set(settings)
    assert set(settings) <= {*profile.settings.keys, *profile.settings.optional}
    claims = [r["metadata"]["name"] for r in resources if r["kind"] == "PersistentVolumeClaim"]
    assert set(profile.volumes) <= set(claims)
    assert settings["RUSHES_CACHE"] in profile.volumes.values()
    for secret in profile.secrets:
        (made,) = re.findall(rf"-n \$PIPELINES create secret generic {secret.name} .*", RUNBOOK)
        assert all(f"{key}=" in made for key in secret.keys)


def test_settings_agree_wherever_they_are_said() -> None:
    pipelines = named(rendered("pipelines"), "ConfigMap", "rushes-settings")["data"]
    for overlay in ("small", "production"):
        settings = named(rendered(overlay), "ConfigMap", "rushes-settings")["data"]
        assert {key: pipelines[key] for key in settings.keys() & pipelines.keys()} == {
            key: settings[key] for key in settings.keys() & pipelines.keys()
        }
    host, port = pipelines["RUSHES_REPLICAS"].split(":")
    service = named(rendered("small"), "Service", host.split(".")[0])
    assert [p["port"] for p in service["spec"]["ports"]] == [int(port)] and service["spec"]["publishNotReadyAddresses"]


def test_a_job_that_is_scheduled_has_a_token_for_pipelines_alone() -> None:
    (template,) = (t for name, t in templates(rendered("small")) if name == "CronJob/schedules-check")
    (source,) = (v["projected"]["sources"] for v in template["spec"]["volumes"] if "projected" in v)
    assert [s["serviceAccountToken"]["audience"] for s in source] == ["pipelines.kubeflow.org"]
    (container,) = template["spec"]["containers"]
    (folder,) = (m["mountPath"] for m in container["volumeMounts"] if m["name"] == "kfp-token")
    assert f"{folder}/{source[0]['serviceAccountToken']['path']}" == KF_PIPELINES_SA_TOKEN_PATH
    assert {"KF_PIPELINES_ENDPOINT", "RUSHES_KFP_NAMESPACE"} <= {variable["name"] for variable in container["env"]}


# Schedules -----------------------------------------------------------------------------------------------------------


def checker() -> Any:
    return named(rendered("small"), "CronJob", "schedules-check")["spec"]


def mounts(container: Any) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


def test_the_runbooks_first_schedules_are_ones_that_the_check_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = checker()["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    first, *later = re.findall(r"create configmap rushes-schedules (.*)", RUNBOOK)
    given = dict(re.findall(r"--from-file=(\S+?)=(\S+)", first))
    for name, path in given.items():
        shutil.copy(REPOSITORY / path, tmp_path / name)
    assert later and all(dict(re.findall(r"--from-file=(\S+?)=(\S+)", line)).keys() == given.keys() for line in later)
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    assert main([argument.replace("/etc/rushes", str(tmp_path)) for argument in container["command"][1:]]) == 0
    assert "No schedule is enabled." in capsys.readouterr().out


def test_the_check_names_its_pipeline_and_so_does_every_command_of_the_runbook_on_schedules() -> None:
    (container,) = checker()["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    check: Any = parse(container["command"][1:])
    assert {path.parent for path in (check.file, *check.pipeline)} == {Path("/etc/rushes")} and check.pipeline
    commands = re.findall(r"rushes (schedules (?:plan|apply)[^`\n]*)", RUNBOOK)
    parsed: list[Any] = [parse(command.split()) for command in commands]
    assert len(parsed) >= 2 and all(command.pipeline for command in parsed)


def test_the_check_keeps_what_it_fetched_and_has_time_for_a_first_pin() -> None:
    job = checker()["jobTemplate"]["spec"]
    spec = job["template"]["spec"]
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v
    }
    for container in (*spec["initContainers"], *spec["containers"]):
        assert mounts(container)["/var/lib/rushes"] in claims
    assert {"name": "RUSHES_HOME", "value": "/var/lib/rushes"} in spec["containers"][0]["env"]
    claim = named(rendered("small"), "PersistentVolumeClaim", *claims.values())
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"] and checker()["concurrencyPolicy"] == "Forbid"
    assert f"{job['activeDeadlineSeconds'] // 3600} hours" in RUNBOOK
    assert job["activeDeadlineSeconds"] >= 12 * 3600
    assert claim["spec"]["resources"]["requests"]["storage"] in RUNBOOK


def test_what_a_killed_fetch_left_is_removed_and_so_are_old_revisions(tmp_path: Path) -> None:
    (container,) = checker()["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
    revisions = tmp_path / "cache" / "revisions"
    argv = [argument.replace("/var/lib/rushes", str(tmp_path)) for argument in container["command"]]
    subprocess.run(argv, check=True, timeout=60)  # an empty volume
    for name in ("new/videos", "new/.fetching-a1_b/videos", "new/a/.fetching-27", "old/videos"):
        (revisions / name).mkdir(parents=True)
    (revisions / "new" / "videos" / "clip.mp4").touch()
    eight_days = time.time() - 8 * 24 * 3600
    os.utime(revisions / "old", (eight_days, eight_days))
    subprocess.run(argv, check=True, timeout=60)
    left = {str(path.relative_to(revisions)) for path in revisions.rglob("*")}
    assert left == {"new", "new/videos", "new/videos/clip.mp4", "new/a"}
