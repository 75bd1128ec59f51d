"""Tasks and networks from outside: an installed package, a file; found, digested, trained, resumed, or refused."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from rushes import digests, plugins
from rushes.backbones import make_backbone
from rushes.cli import main, parse
from rushes.config import Recipe
from rushes.errors import UserError
from rushes.footage.reference import DataReference
from rushes.pretext import make_task
from rushes.recipes import parse_recipe
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.strict import to_record
from tests.integration.conftest import write_videos
from tests.pretext.shots import shot

INFONCE = '''"""InfoNCE: which clip of the batch is of the same shot?"""

from dataclasses import dataclass

import torch
from rushes.pretext.task import ClipTuple, PretextTask, Shot, random_crops
from torch import Tensor, nn
from torch.nn import functional as F


class Similarity(nn.Module):
    def __init__(self, features: int, temperature: float) -> None:
        super().__init__()
        self.project, self.temperature = nn.Linear(features, 32), temperature

    def forward(self, x: Tensor) -> Tensor:
        one, other = F.normalize(self.project(x), dim=2).unbind(1)
        places = torch.arange(len(x), device=x.device)
        return (one @ other.T / self.temperature).gather(1, (places[:, None] + places) % len(x))  # its own first


@dataclass(frozen=True, kw_only=True)
class InfoNCE(PretextTask):
    temperature: float = 0.1
    elements, classes, chance = 2, 1, 0.0

    def span(self, *, clip_frames: int) -> int:
        return 2 * clip_frames

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng) -> ClipTuple:
        firsts = rng.integers(shot.frames - clip_frames + 1, size=2)
        frames = firsts[:, None] + range(clip_frames)
        return ClipTuple(frames=frames, crops=random_crops(shot, crop=crop, count=2, rng=rng), label=0)

    def head(self, features: int) -> nn.Module:
        return Similarity(features, self.temperature)
'''
PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "rushes-infonce"
version = "1.2"

[project.entry-points."rushes.pretext"]
infonce = "rushes_infonce:InfoNCE"
"""
NETWORK = """
from rushes.backbones.resnet3d import ResNet3D
BACKBONES = {"mine": lambda: ResNet3D(factored=False, widths=(16, 32, 64, 128), stem_kernel=5, differences=True)}
"""
SMALL = (
    "pace-r2plus1d",
    "--size",
    "cpu",
    "--sample.short_side",
    "32",
    "--sample.val_share",
    "0",
    "--sample.workers",
    "2",
    "--pretrain.crop",
    "32",
    "--pretrain.clip_frames",
    "8",
    "--pretrain.workers",
    "0",
    "--pretrain.batch",
    "4",
    "--pretrain.checkpoint_seconds",
    "0",
    "--finetune.epochs",
    "1",
    "--finetune.workers",
    "0",
)


def recipe_of(*flags: str) -> Recipe:
    recipe: Recipe = parse(["run", *SMALL, "--videos", "x", *flags]).full_recipe  # type: ignore[attr-defined]
    return recipe


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network is slower with more
    yield
    torch.set_num_threads(threads)
    plugins.use([])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed."""
    source, target = tmp_path_factory.mktemp("infonce"), tmp_path_factory.mktemp("site")
    assert len(INFONCE.splitlines()) <= 40
    (source / "rushes_infonce.py").write_text(INFONCE)
    (source / "pyproject.toml").write_text(PYPROJECT)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--disable-pip-version-check",
            "--target",
            str(target),
            str(source),
        ],
        check=True,
    )
    return target


@pytest.fixture
def package(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The installed module."""
    monkeypatch.syspath_prepend(str(installed))
    yield installed / "rushes_infonce.py"
    (installed / "rushes_infonce.py").write_text(INFONCE)
    sys.modules.pop("rushes_infonce", None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with footage of eight small videos."""
    home = tmp_path_factory.mktemp("home")
    write_videos(home / "videos", files=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(home))
        pin(data=DataReference(videos=str(home / "videos")), out=home / "pin.json")
        sample(recipe=recipe_of(), pin=home / "pin.json", out=home / "footage.json")
    return home


@pytest.fixture
def footage(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUSHES_HOME", str(home))
    return home / "footage.json"


# A package -----------------------------------------------------------------------------------------------------------


def test_an_installed_task_is_in_the_help(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "pace-r2plus1d", "--help"])
    assert ended.value.code == 0
    assert "shuffle_and_learn, infonce." in " ".join(capsys.readouterr().out.split())
    assert main(["models"]) == 0
    assert "infonce" in capsys.readouterr().out


def test_its_positive_is_the_first_answer(package: Path) -> None:
    task = make_task("infonce", {"temperature": 0.5})
    clips = torch.nn.functional.normalize(torch.randn(5, 1, 16), dim=2).expand(5, 2, 16)
    logits = task.head(16)(clips)
    assert logits.shape == (5, 5)
    assert (logits.argmax(1) == 0).all()
    assert task.draw(shot(60), clip_frames=8, crop=32, rng=np.random.default_rng(0)).label == 0


def test_its_code_and_version_are_in_the_digest_and_its_comments_are_not(package: Path) -> None:
    before = plugins.record(task="infonce")
    package.write_text("# A comment.\n" + INFONCE)
    assert plugins.record(task="infonce") == before
    package.write_text(INFONCE.replace("features, 32", "features, 64"))
    assert plugins.record(task="infonce") != before
    package.write_text(INFONCE)
    (described,) = package.parent.glob("rushes_infonce-1.2.dist-info")
    later = described.rename(described.with_name("rushes_infonce-1.3.dist-info"))
    text = (later / "METADATA").read_text()
    (later / "METADATA").write_text(text.replace("Version: 1.2", "Version: 1.3"))
    importlib.invalidate_caches()
    assert plugins.record(task="infonce") != before
    (later / "METADATA").write_text(text)
    later.rename(described)
    importlib.invalidate_caches()
    assert plugins.record(task="infonce") == before


def test_what_is_not_used_is_not_in_the_digest(package: Path, tmp_path: Path) -> None:
    plugins.use([written(tmp_path / "net.py", NETWORK)])
    recorded = plugins.record(task="pace", backbone="mine")["definitions"]
    assert {kind: used["name"] for kind, used in recorded.items()} == {"task": "pace", "backbone": "mine"}
    plugins.use([])
    package.write_text("_CHANGED = True")
    assert plugins.record(task="pace")["definitions"] == {"task": recorded["task"]}
    assert plugins.record(task="none")["definitions"] == {}


def test_code_of_ours_that_a_plugin_imports_is_in_its_digest(tmp_path: Path) -> None:
    package = tmp_path / "rushes"
    for name in ("__init__", "used", "unused"):
        written(package / f"{name}.py", "x = 1")
    plugin = written(tmp_path / "plugin.py", "from rushes.used import x")
    before = digests.source_digest([plugin], root=tmp_path)
    written(package / "unused.py", "x = 2")
    assert digests.source_digest([plugin], root=tmp_path) == before
    written(package / "used.py", "x = 2")
    assert digests.source_digest([plugin], root=tmp_path) != before


def test_an_installed_task_is_trained_killed_and_resumed(package: Path, footage: Path, tmp_path: Path) -> None:
    flags = ("--pretrain.task", "infonce", "--pretrain.samples_per_epoch", "16", "--pretrain.epochs", "6")
    recipe = recipe_of(*flags, "--pretrain.backbone", "tiny_r3d")
    command = [sys.executable, "-m", "rushes.cli", "pretrain", *SMALL, *flags, "--pretrain.backbone", "tiny_r3d"]
    search = os.pathsep.join([str(package.parent), *sys.path])
    process = subprocess.Popen(
        [*command, "--footage", str(footage), "--out", str(tmp_path / "out.json")],
        env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    checkpoints = footage.parent / "store" / "checkpoints"
    while not list(checkpoints.glob("*/*.pt")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.json").exists()
    steps: list[int] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    made = pretrain(recipe=recipe, footage=footage, out=tmp_path / "out.json")
    hook.remove()
    assert 0 < len(steps) < 24
    assert made.summary["task"] == "infonce" and made.summary["epoch"] == 6
    assert made.config["definitions"]["task"]["name"] == "infonce"
    package.write_text(INFONCE.replace("0.1", "0.2"))
    changed: dict[str, Any] = plugins.record(task="infonce", backbone="tiny_r3d")["definitions"]
    assert changed["task"] != made.config["definitions"]["task"]
    assert changed["backbone"] == made.config["definitions"]["backbone"]


# A file --------------------------------------------------------------------------------------------------------------


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_travels_in_the_recipe_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "task.py", f"{INFONCE}\n\nTASKS = {{'mine': InfoNCE}}\n")
    network = written(tmp_path / "network.py", NETWORK)
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of("--plugin", "task.py", "--plugin=network.py")
    assert recipe.plugins == (str(file), str(network))
    arrived = parse_recipe(json.loads(json.dumps(to_record(recipe))))
    assert arrived == recipe
    plugins.use([])
    with pytest.raises(UserError, match="'mine' is not known"):
        make_task("mine", {})
    plugins.use(arrived.plugins)
    assert make_task("mine", {"temperature": 0.2}).elements == 2
    assert make_backbone("mine").features == 128


def test_a_files_content_counts_and_its_place_does_not(tmp_path: Path) -> None:
    found = []
    for folder, text in (
        ("a", NETWORK),
        ("b", NETWORK),
        ("b", f"# Why.\n{NETWORK}"),
        ("b", NETWORK.replace("128)", "512)")),
    ):
        plugins.use([written(tmp_path / folder / "net.py", text)])
        found.append(plugins.record(backbone="mine"))
    assert found[0] == found[1] == found[2] != found[3]
    assert make_backbone("mine").features == 512


def test_modules_that_a_file_imports_count_at_any_depth_where_they_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "beside"))
    helper = written(
        tmp_path / "beside" / "a_helper.py", "import json\nimport torch\nfrom a_package.deep import WIDTH\n"
    )
    deep = written(tmp_path / "beside" / "a_package" / "deep.py", "WIDTH = 16\n")
    unused = written(tmp_path / "beside" / "not_imported.py", "x = 1\n")
    text = f"def made():\n    import a_helper\n    return a_helper\n{NETWORK}"
    using, alone = (
        written(tmp_path / "using.py", text.replace("mine", "using")),
        written(tmp_path / "alone.py", NETWORK),
    )
    plugins.use([using, alone])

    def codes() -> dict[str, Any]:
        return {name: plugins.record(backbone=name)["definitions"]["backbone"]["code"] for name in ("using", "mine")}

    before = codes()
    written(unused, "x = 2\n")
    assert codes() == before
    for file in (helper, deep):
        written(file, file.read_text() + "CHANGED = 1\n")
        after = codes()
        assert after["using"] != before["using"] and after["mine"] == before["mine"]
        before = after


def test_later_steps_need_the_network_and_cover_its_code(footage: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "net.py", NETWORK)
    flags = ("--plugin", str(file), "--pretrain.backbone", "mine", "--pretrain.epochs", "1")
    recipe, out = recipe_of(*flags, "--pretrain.samples_per_epoch", "8"), tmp_path / "tuned.json"
    backbone = pretrain(recipe=recipe, footage=footage, out=tmp_path / "backbone.json")
    tuned = finetune(recipe=recipe, footage=footage, backbone=tmp_path / "backbone.json", out=out)
    covered = plugins.record(backbone="mine")["definitions"]["backbone"]
    assert tuned.config["definitions"]["backbone"] == backbone.config["definitions"]["backbone"] == covered
    with pytest.raises(UserError, match=r"backbone: 'mine' is not known; .*; or give --plugin FILE\.py"):
        finetune(recipe=recipe_of(), footage=footage, backbone=tmp_path / "backbone.json", out=out)
    written(file, NETWORK + "\n_CHANGED = True\n")
    plugins.use(recipe.plugins)
    assert plugins.record(backbone="mine")["definitions"] != tuned.config["definitions"]


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("TASKS = {", "cannot be run: SyntaxError"),
        ("import nothing_of_that_name", "cannot be run: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("tasks = {}", "defines neither TASKS nor BACKBONES"),
        ("def f():\n    TASKS = {'mine': 1}", "defines neither TASKS nor BACKBONES"),
        ("TASKS = dict(mine=1)", "TASKS must be a dict with its names written out"),
        ("name = 'mine'\nBACKBONES = {name: 1}", "BACKBONES must be a dict with its names written out"),
        ("OTHERS = {}\nTASKS = {'mine': 1, **OTHERS}", "TASKS must be a dict with its names written out"),
    ],
)
def test_a_file_that_is_no_plugin_is_one_line_and_exit_code_2(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plugin.py"
    if text is not None:
        file.write_text(text)
    assert main(["sample", *SMALL, "--plugin", str(file), "--pin", "x", "--out", "y"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.startswith(f"rushes: --plugin {file}: ") and words in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("TASKS = {'mine': 3}", "is 3; expected a class or a function"),
        ("TASKS = {'mine': dict}", "is <class 'dict'>; expected a dataclass derived from PretextTask"),
        (
            "from rushes.pretext.pace import Pace\nTASKS = {'pace': Pace}",
            "'pace' is defined by rushes.pretext.pace and by",
        ),
        ("TASKS = {'none': dict}", "pretrain.task: 'none', by "),
        ("TASKS = {'mine': 1}\nTASKS = {'other': 1}", "TASKS does not hold 'mine' any more once it has run"),
        ("TASKS = {'mine': 1}\nTASKS.clear()", "TASKS does not hold 'mine' any more once it has run"),
        ("TASKS = {'mine': 1}\nTASKS = 'mine'", "TASKS must be a dict with its names written out"),
        ("TASKS = {'mine': 1}\ndel TASKS", "TASKS does not hold 'mine' any more once it has run"),
    ],
)
def test_a_task_must_be_one_and_its_name_its_own(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        plugins.use([written(tmp_path / "plugin.py", text)])
        make_task("pace" if "'pace'" in text else "mine", {})
    assert words in str(caught.value)


def test_a_network_must_be_one(tmp_path: Path) -> None:
    plugins.use([written(tmp_path / "plugin.py", "BACKBONES = {'mine': dict}")])
    with pytest.raises(UserError, match=r"'mine' makes a dict; expected a rushes\.backbones\.Backbone"):
        make_backbone("mine")


def test_two_of_one_name_are_named_both(package: Path, tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, NETWORK) for name in ("one.py", "two.py"))
    plugins.use([one, two, one])
    with pytest.raises(UserError) as caught:
        make_backbone("tiny_r3d")
    assert all(str(file) in str(caught.value) for file in (one, two))
    plugins.use([written(tmp_path / "mine.py", "TASKS = {'infonce': dict}")])
    with pytest.raises(UserError, match=r"mine\.py and by rushes-infonce 1\.2 \(rushes\.pretext: infonce = "):
        make_task("infonce", {})


def test_an_installed_plugin_that_does_not_import_says_why(package: Path) -> None:
    package.write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match=r"rushes-infonce 1\.2 .*: cannot be imported: ModuleNotFoundError: No module"):
        make_task("infonce", {})
    assert make_task("pace", {}).elements == 1
