"""The group "Before a run": doctor, plan."""

from dataclasses import dataclass

from rushes.cli.base import WithRecipe


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Looks whether everything is there that a run needs: store, servers, GPU, versions; each with its remedy.

    rushes doctor --profile gpu

    On a laptop, or in a pod of the cluster. Exit status 1: something failed.
    """

    profile: str = ""
    """The cluster's profile: a name (cpu, gpu) or a file.yaml."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: the profile's, then KF_PIPELINES_ENDPOINT."""

    def execute(self) -> int:
        from rushes.commands.doctor import doctor
        from rushes.doctor.findings import Environment

        return doctor(Environment(profile=self.profile, host=self.host))


@dataclass(frozen=True, kw_only=True)
class Plan(WithRecipe):
    """What a run will cost, before it is run: core-hours, GPU-hours, GB and minutes a step, as ranges.

    rushes plan pace-r2plus1d --videos s3://bucket/archive --profile gpu

    Samples a small part of the archive into a folder that is thrown away; nothing is kept.
    """

    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    labels: str = ""
    """CSV or Parquet of labels; default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    profile: str = ""
    """The cluster's profile: a name (cpu, gpu) or a file.yaml. Default: this machine."""
    share: float = 0.01
    """Share of the sampling that is done for this: of at least 16 segments, and for at most about 10 core-minutes."""
    json: bool = False
    """As JSON."""

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
