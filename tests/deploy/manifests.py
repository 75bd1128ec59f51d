"""The manifests as a cluster would get them, and what must hold of every one: each rule names what breaks it."""

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = ("small", "production", "pipelines", "kubeflow")
WORKLOADS = ("Deployment", "StatefulSet", "CronJob")

Resource = dict[str, Any]
_EXACT = re.compile(r"@sha256:[0-9a-f]{64}$|:[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z0-9.]+)*$")
_SECRET_NAME = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|CREDENTIAL|BACKEND_STORE_URI")


def kubectl() -> str:
    """The one of the development set, or another on PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is absent: `make install` brings it")
    return found


@functools.cache
def _rendered(overlay: str) -> str:
    argv = [kubectl(), "kustomize", str(KUBERNETES / overlay)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def rendered(overlay: str) -> list[Resource]:
    """All resources of an overlay; a new copy each time."""
    return [resource for resource in yaml.safe_load_all(_rendered(overlay)) if resource]


def named(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = (r for r in resources if (r["kind"], r["metadata"]["name"]) == (kind, name))
    return found


def templates(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Every pod template, with the name of what makes the pods."""
    for resource in resources:
        if resource["kind"] in WORKLOADS:
            spec = resource["spec"]
            template = spec["jobTemplate"]["spec"]["template"] if resource["kind"] == "CronJob" else spec["template"]
            yield f"{resource['kind']}/{resource['metadata']['name']}", template


def containers(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    for name, template in templates(resources):
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            yield f"{name}/{container['name']}", container


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "only labels are looked at here"
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


# Rules: each returns what breaks it ----------------------------------------------------------------------------------


def no_pod_is_root(resources: list[Resource]) -> list[str]:
    wrong = []
    for name, template in templates(resources):
        context = template["spec"].get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            wrong.append(f"{name}: runAsNonRoot and another runAsUser than 0 are needed")
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            wrong.append(f"{name}: seccompProfile is not RuntimeDefault")
    for name, container in containers(resources):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            wrong.append(f"{name}: may gain privileges")
        if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
            wrong.append(f"{name}: keeps capabilities")
        if context.get("readOnlyRootFilesystem") is not True:
            wrong.append(f"{name}: may write its root file system")
        if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
            wrong.append(f"{name}: is root")
    return wrong


def no_image_changes(resources: list[Resource]) -> list[str]:
    return [
        f"{name}: {container['image']} is neither a digest nor an exact version"
        for name, container in containers(resources)
        if not _EXACT.search(container["image"])
    ]


def secrets_are_references(resources: list[Resource]) -> list[str]:
    wrong = [f"Secret/{r['metadata']['name']}: is in the manifests" for r in resources if r["kind"] == "Secret"]
    for name, container in containers(resources):
        for variable in container.get("env", []):
            if _SECRET_NAME.search(variable["name"]) and "secretKeyRef" not in variable.get("valueFrom", {}):
                wrong.append(f"{name}: {variable['name']} is no reference to a Secret")
    for resource in resources:
        for key, value in resource.get("data", {}).items() if resource["kind"] == "ConfigMap" else ():
            if _SECRET_NAME.search(key) or re.search(r"://[^/\s:]+:[^/\s@]+@", value):
                wrong.append(f"ConfigMap/{resource['metadata']['name']}: {key} looks like a secret")
    return wrong


def everything_is_bounded(resources: list[Resource]) -> list[str]:
    wrong = []
    for name, container in containers(resources):
        for bound in ("requests", "limits"):
            missing = {"cpu", "memory"} - set(container.get("resources", {}).get(bound, {}))
            wrong += [f"{name}: no {bound} of {resource}" for resource in sorted(missing)]
    for name, template in templates(resources):
        for volume in _volumes(template):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                wrong.append(f"{name}: volume {volume['name']} has no limit")
    return wrong


def every_pod_has_its_policy(resources: list[Resource]) -> list[str]:
    policies = [r for r in resources if r["kind"] == "NetworkPolicy"]
    pods = list(templates(resources))
    wrong = []
    closed = [p for p in policies if p["spec"]["podSelector"] == {} and not {"ingress", "egress"} & set(p["spec"])]
    if pods and not any(set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"} for p in closed):
        wrong.append("nothing denies what is not allowed")
    own = [p["spec"]["podSelector"] for p in policies if p["spec"]["podSelector"] != {}]
    for name, template in pods:
        if not any(selects(selector, template["metadata"]["labels"]) for selector in own):
            wrong.append(f"{name}: no policy says what it may do")
    for policy in policies:
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        if any(not rule.get("ports") or not (rule.get("from") or rule.get("to")) for rule in rules):
            wrong.append(f"NetworkPolicy/{policy['metadata']['name']}: open to all peers or ports")
    return wrong


def nobody_holds_a_token(resources: list[Resource]) -> list[str]:
    accounts = {r["metadata"]["name"]: r for r in resources if r["kind"] == "ServiceAccount"}
    wrong = [
        f"ServiceAccount/{name}: mounts its token"
        for name, account in accounts.items()
        if account.get("automountServiceAccountToken") is not False
    ]
    for name, template in templates(resources):
        spec = template["spec"]
        if spec.get("serviceAccountName") not in accounts:
            wrong.append(f"{name}: no service account of its own")
        if spec.get("automountServiceAccountToken") is not False:
            wrong.append(f"{name}: mounts a token of the Kubernetes API")
        if spec.get("hostNetwork") or spec.get("hostPID") or any("hostPath" in v for v in spec.get("volumes", [])):
            wrong.append(f"{name}: reaches into its node")
    for resource in resources:
        rules = resource.get("rules", []) if resource["kind"] in ("Role", "ClusterRole") else []
        if resource["kind"] == "ClusterRole" or any("*" in [*r["verbs"], *r["resources"]] for r in rules):
            wrong.append(f"{resource['kind']}/{resource['metadata']['name']}: grants more than it has to")
    return wrong


def names_meet(resources: list[Resource]) -> list[str]:
    """Selectors find pods, ports and volumes exist, and referenced settings are there."""
    settings = {r["metadata"]["name"]: r.get("data", {}) for r in resources if r["kind"] == "ConfigMap"}
    claims = {r["metadata"]["name"] for r in resources if r["kind"] == "PersistentVolumeClaim"}
    pods = [template for _, template in templates(resources)]
    wrong = []
    for name, template in templates(resources):
        volumes = {volume["name"] for volume in _volumes(template)}
        volumes |= {
            claim["metadata"]["name"]
            for resource in resources
            if f"{resource['kind']}/{resource['metadata']['name']}" == name
            for claim in resource["spec"].get("volumeClaimTemplates", [])
        }
        wanted = [v["persistentVolumeClaim"]["claimName"] for v in _volumes(template) if "persistentVolumeClaim" in v]
        wrong += [f"{name}: no claim {claim}" for claim in wanted if claim not in claims]
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            wrong += [f"{name}: no volume {mount}" for mount in sorted(mounts - volumes)]
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("configMapKeyRef")
                if reference and reference["key"] not in settings.get(reference["name"], {}):
                    wrong.append(f"{name}: no setting {reference['key']} in {reference['name']}")
    for resource in resources:
        label = f"{resource['kind']}/{resource['metadata']['name']}"
        if resource["kind"] == "Service":
            found = [p for p in pods if resource["spec"]["selector"].items() <= p["metadata"]["labels"].items()]
            ports = {port["name"] for pod in found for port in _ports(pod)}
            wrong += [
                f"{label}: no port {p['targetPort']}" for p in resource["spec"]["ports"] if p["targetPort"] not in ports
            ]
        if resource["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = resource["spec"].get("selector") or resource["spec"].get("podSelector") or {}
            # `kubeflow` has no pods of ours: its policy selects Kubeflow's server.
            if pods and not any(selects(selector, pod["metadata"]["labels"]) for pod in pods):
                wrong.append(f"{label}: selects no pod")
        if resource["kind"] == "HorizontalPodAutoscaler":
            target = resource["spec"]["scaleTargetRef"]
            if not any((r["kind"], r["metadata"]["name"]) == (target["kind"], target["name"]) for r in resources):
                wrong.append(f"{label}: scales nothing")
        if resource["kind"] == "ServiceMonitor":
            services = [r for r in resources if r["kind"] == "Service"]
            found = [s for s in services if selects(resource["spec"]["selector"], s["metadata"].get("labels", {}))]
            ports = {port["name"] for service in found for port in service["spec"]["ports"]}
            wrong += [f"{label}: no port {e['port']}" for e in resource["spec"]["endpoints"] if e["port"] not in ports]
    return wrong


def _volumes(template: Resource) -> list[Resource]:
    volumes: list[Resource] = template["spec"].get("volumes", [])
    return volumes


def _ports(template: Resource) -> list[Resource]:
    spec = template["spec"]
    return [p for c in [*spec.get("initContainers", []), *spec["containers"]] for p in c.get("ports", [])]


RULES: dict[str, Callable[[list[Resource]], list[str]]] = {
    rule.__name__: rule
    for rule in (
        no_pod_is_root,
        no_image_changes,
        secrets_are_references,
        everything_is_bounded,
        every_pod_has_its_policy,
        nobody_holds_a_token,
        names_meet,
    )
}
