"""The group "Before a run": doctor, plan."""

from dataclasses import dataclass

from rushes.cli.base import WithRecipe


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Checks what a run needs (store, servers, GPU, versions) and says how to fix what is missing.

    rushes doctor --profile gpu

    Runs on a laptop or in a pod of the cluster. Exit status 1: a check failed.
    """

    profile: str = ""
    """Profile of the cluster: cpu, gpu, or a YAML file."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: the profile's, then KF_PIPELINES_ENDPOINT."""
    triton: str = ""
    """URL of a Triton's HTTP port. Default: of the one that `rushes up` started."""

    def execute(self) -> int:
        from rushes.commands.doctor import doctor
        from rushes.doctor.findings import Environment

        return doctor(Environment(profile=self.profile, host=self.host, triton=self.triton))


@dataclass(frozen=True, kw_only=True)
class Plan(WithRecipe):
    """Estimates what a run will cost: core-hours, GPU-hours, GB and minutes per step, as ranges.

    rushes plan pace-r2plus1d --videos s3://bucket/archive --profile gpu

    Samples a small part of the archive into a temporary folder; nothing is kept.
    """

    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    labels: str = ""
    """CSV or Parquet of labels. Default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    profile: str = ""
    """Profile of the cluster: cpu, gpu, or a YAML file. Default: this machine."""
    share: float = 0.01
    """Share of the archive to sample for the estimate: at least 16 segments, at most about 10 core-minutes."""
    json: bool = False
    """Print JSON."""

    def execute(self) -> int:
        from rushes.commands.plan import plan
        from rushes.footage.reference import DataReference

        return plan(
            self.full_recipe,
            size=self.size,
            data=DataReference(videos=self.videos, labels=self.labels, splits=self.splits, fold=self.fold),
            profile=self.profile,
            share=self.share,
            as_json=self.json,
        )
