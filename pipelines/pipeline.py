"""The pipeline: pin -> sample -> (pretrain -> finetune) a model -> choose -> evaluate -> ... -> promote -> deploy.

    python -m pipelines.pipeline            writes pipelines/pipeline.yaml, and its digest in deploy/schedules.yaml
    python -m pipelines.pipeline --check    fails where it differs from what is committed

Caching by KFP is off: the store answers what is already done, and it knows the code too. What a cluster is like comes
from a profile; on one machine, kfp.local leaves that out.
"""

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from components.choose.component import choose
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.export.component import export
from components.finetune.component import finetune
from components.pin.component import pin
from components.pretrain.component import pretrain
from components.promote.component import promote
from components.register.component import register
from components.sample.component import sample
from components.summary.component import summary
from pipelines.image import tag
from rushes.orchestration.profile import DEFAULT, Keys, Profile, Resources, read_profile

COMPILED = Path(__file__).with_name("pipeline.yaml")
"""The committed compilation: what `rushes run` executes, and clusters that are like the default profile."""
SCHEDULES = Path(__file__).parents[1] / "deploy" / "schedules.yaml"
"""An example, off until it is somebody's: it names the committed compilation."""
TRAINING = ("pretrain", "finetune", "evaluate")
"""Components that a GPU is for."""
HEAVY = ("sample", "export", "promote")
"""Components that take many cores, or much memory, but no GPU."""

_SHARED_MEMORY = "/dev/shm"  # noqa: S108


def make_pipeline(profile: Profile) -> Callable[..., Any]:
    """The pipeline for clusters that are like `profile`."""

    def place(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return _placed(task, profile)

    @dsl.pipeline(name="rushes", description="From raw, unlabelled video to a served action-recognition model.")
    def rushes(
        videos: str,
        models: list[dict[str, Any]],
        endpoint: str,
        labels: str = "",
        splits: str = "",
        fold: int = 1,
        revision: str = "",
        partitions: int = profile.partitions,
    ) -> None:
        """Trains every model, holds the one that is best on validation against random weights, and may serve it.

        Args:
            videos: folder of video files, or the URL of one.
            models: all hyperparameters of each (`rushes.config.Recipe` as plain data); all want the same footage.
            endpoint: name that the model is registered and served under.
            labels: CSV of labels; empty to look in the folder.
            splits: folder of official split files.
            fold: number of the split.
            revision: revision of the DVC repository that the videos lie in.
            partitions: pods that sample at the same time.
        """
        last = place(summary(endpoint=endpoint))
        with dsl.ExitHandler(last, name="run"):
            pinned = place(
                pin(videos=videos, labels=labels, splits=splits, fold=fold, revision=revision, partitions=partitions)
            )
            source = pinned.outputs["pinned"]
            with dsl.ParallelFor(pinned.outputs["Output"], name="sample-parts") as part:
                encoded = place(sample(models=models, pin=source, partition=part))
                encoded.set_display_name("sample a part")
            parts = dsl.Collected(encoded.outputs["footage"])
            footage = place(sample(models=models, pin=source, parts=parts)).outputs["footage"]
            with dsl.ParallelFor(models, name="models", parallelism=profile.parallel) as model:
                backbone = place(pretrain(recipe=model, footage=footage)).outputs["backbone"]
                tuned = place(finetune(recipe=model, init="pretrained", footage=footage, backbone=backbone))
            chosen = place(
                choose(
                    models=models,
                    backbones=dsl.Collected(backbone),
                    classifiers=dsl.Collected(tuned.outputs["classifier"]),
                )
            ).outputs
            recipe, classifier = chosen["Output"], chosen["classifier"]
            scratch = place(finetune(recipe=recipe, init="random", footage=footage, backbone=chosen["backbone"]))
            scratch.set_display_name("finetune from random weights")
            evaluation = place(
                evaluate(
                    recipe=recipe,
                    footage=footage,
                    backbone=chosen["backbone"],
                    classifier=classifier,
                    baseline=scratch.outputs["classifier"],
                )
            ).outputs["evaluation"]
            bundle = place(export(recipe=recipe, classifier=classifier)).outputs["bundle"]
            version = place(register(recipe=recipe, endpoint=endpoint, bundle=bundle, evaluation=evaluation)).outputs[
                "version"
            ]
            decided = place(
                promote(recipe=recipe, version=version, bundle=bundle, evaluation=evaluation, footage=footage)
            ).outputs
            with dsl.If(decided["Output"] == "promoted", name="promoted"):
                place(deploy(recipe=recipe, decision=decided["decision"]))

    compiled: Callable[..., Any] = rushes
    return compiled


def compile_to(path: Path, profile: Profile) -> None:
    """Compiles to KFP's intermediate representation."""
    compiler.Compiler().compile(make_pipeline(profile), str(path))


def _placed(task: dsl.PipelineTask, profile: Profile) -> dsl.PipelineTask:
    """Gives a task what its pod is to be like."""
    trains = task.component_spec.name in TRAINING
    resources = profile.train if trains else profile.cpu if task.component_spec.name in HEAVY else profile.light
    task.set_caching_options(False)
    task.set_container_image(_image(profile, gpu=trains and profile.gpu.count > 0))
    task.set_retry(
        profile.retry.count,
        backoff_duration=profile.retry.wait,
        backoff_factor=2.0,
        backoff_max_duration=profile.retry.longest,
    )
    _limit(task, resources)
    kubernetes.set_security_context(task, run_as_user=profile.user, run_as_group=profile.user, run_as_non_root=True)
    if profile.pull_secret:
        kubernetes.set_image_pull_secrets(task, [profile.pull_secret])
    _set_environment(task, profile)
    for claim, folder in profile.volumes.items():
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path=folder)
    for key, value in profile.labels.items():
        kubernetes.add_pod_label(task, key, value)
    if trains:
        _place_training(task, profile)
    return task


def _limit(task: dsl.PipelineTask, resources: Resources) -> None:
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    kubernetes.set_timeout(task, seconds=60 * resources.timeout_minutes)


def _set_environment(task: dsl.PipelineTask, profile: Profile) -> None:
    """Settings and secrets by reference, and the run's ID, under which the steps write their journal."""
    kubernetes.use_field_path_as_env(task, "RUSHES_RUN", "metadata.labels['pipeline/runid']")
    _refer(kubernetes.use_config_map_as_env, task, profile.settings)
    for secret in profile.secrets:
        _refer(kubernetes.use_secret_as_env, task, secret)


def _refer(use: Callable[..., Any], task: dsl.PipelineTask, source: Keys) -> None:
    for keys, optional in ((source.keys, False), (source.optional, True)):
        if keys:
            use(task, source.name, {key: key for key in keys}, optional=optional)


def _place_training(task: dsl.PipelineTask, profile: Profile) -> None:
    gpu = profile.gpu
    kubernetes.empty_dir_mount(
        task, volume_name="shared-memory", mount_path=_SHARED_MEMORY, medium="Memory", size_limit=gpu.shared_memory
    )
    if not gpu.count:
        return
    task.set_accelerator_type(gpu.type)
    task.set_accelerator_limit(gpu.count)
    for toleration in gpu.tolerations:
        kubernetes.add_toleration(
            task, key=toleration.key, operator=toleration.operator, value=toleration.value, effect=toleration.effect
        )
    for key, value in gpu.node_selector.items():
        kubernetes.add_node_selector(task, key, value)


def _image(profile: Profile, *, gpu: bool) -> str:
    name = profile.gpu_image if gpu and profile.gpu_image else profile.image
    return name if "@sha256:" in name else f"{name}:{tag()}"


def main() -> int:
    """Writes or checks the committed compilation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    profile = read_profile(DEFAULT)
    if not parser.parse_args().check:
        compile_to(COMPILED, profile)
        digest = hashlib.sha256(COMPILED.read_bytes()).hexdigest()
        SCHEDULES.write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{digest}", SCHEDULES.read_text()))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "pipeline.yaml"
        compile_to(fresh, profile)
        same = fresh.read_text() == COMPILED.read_text()
    if not same:
        sys.stderr.write(f"{COMPILED} is not what the sources compile to: run `make compile` and commit it\n")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
