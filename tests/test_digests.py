"""What runs again after what change: code by code and field by field, through the real steps."""

import ast
import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rushes
from rushes import digests, plugins
from rushes.acceptance import acceptances
from rushes.cli import parse
from rushes.config import Recipe
from rushes.digests import PLUMBING, _parsed, project_imports, step_digest
from rushes.errors import UserError
from rushes.home import open_store
from rushes.recipes import load_recipe
from rushes.steps import evaluate, export, finetune, identity, pretrain, sample
from rushes.steps.base import refs
from rushes.steps.identity import identify, step_code
from rushes.store import Manifest, Store
from tests.chain import Chain
from tests.integration.conftest import write_videos

PACKAGE = Path(rushes.__file__).parent
CACHED = {"sample": sample, "pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "export": export}
EVERY, NOTHING = set(CACHED), set[str]()
TRAINED = EVERY - {"sample"}
TUNED = TRAINED - {"pretrain"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "rushes", ignore=shutil.ignore_patterns("__pycache__", "_bundled"))
    return tmp_path


class Planner:
    """Calls the steps as the pipeline does, with their work left out: what remains is the chain of their refs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.root, self.bytes_differ = folder, folder, True
        monkeypatch.setenv("RUSHES_HOME", str(folder / "home"))
        self.store = open_store()
        monkeypatch.setattr(digests, "ROOT", folder)
        for module in CACHED.values():
            monkeypatch.setattr(module, "run_step", self._plan)
        for module in (finetune, evaluate, export):
            monkeypatch.setattr(module, "network_record", lambda _: plugins.record(backbone=self.backbone))
        monkeypatch.setattr(export, "encoding_record", lambda _: {})

    def _plan(
        self, step: str, *, kind: str, config: Mapping[str, Any], inputs: Mapping[str, Manifest], out: Path, **_: Any
    ) -> Manifest:
        work = identify(step, config=config, inputs=inputs)
        # Without files, an output's content is its ref: work that is done again makes other bytes.
        files = {} if self.bytes_differ else {"same": self.store.put_bytes(step.encode())}
        made = Manifest(
            kind=kind, step=step, digest=work.digest, inputs=refs(inputs), config=config, code="", files=files
        )
        made.write(out)
        self.store.publish(made)
        return made

    def refs(self, recipe: Recipe) -> dict[str, str]:
        """The ref of each cached step's output, from pinned videos that never change."""
        self.backbone = recipe.pretrain.backbone
        at = {name: self.folder / f"{name}.json" for name in ("pin", *CACHED, "baseline")}
        pin = Manifest(kind="pin", step="pin", digest="0", inputs={}, config={}, code="", files={})
        pin.write(at["pin"])
        self.store.publish(pin)
        footage, backbone = at["sample"], at["pretrain"]
        made = {
            "sample": sample.sample(recipe=recipe, pin=at["pin"], out=footage),
            "pretrain": pretrain.pretrain(recipe=recipe, footage=footage, out=backbone),
            "finetune": finetune.finetune(recipe=recipe, footage=footage, backbone=backbone, out=at["finetune"]),
            "baseline": finetune.finetune(
                recipe=recipe, footage=footage, backbone=backbone, out=at["baseline"], init="random"
            ),
            "export": export.export(recipe=recipe, classifier=at["finetune"], out=at["export"]),
            "evaluate": evaluate.evaluate(
                recipe=recipe,
                footage=footage,
                backbone=backbone,
                classifier=at["finetune"],
                baseline=at["baseline"],
                bundle=at["export"],
                out=at["evaluate"],
            ),
        }
        return {name: manifest.ref for name, manifest in made.items()}


@pytest.fixture
def planner(root: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    return Planner(root, monkeypatch)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """The steps that run again; the baseline is a run of `finetune` and must go with it."""
    found = {name for name in before if before[name] != after[name]}
    assert ("baseline" in found) == ("finetune" in found)
    return found - {"baseline"}


# Code ----------------------------------------------------------------------------------------------------------------

RUNS_AGAIN = {
    "serving/__init__.py": {"export", "evaluate"},
    "serving/graph.py": {"export"},
    "serving/export.py": {"export"},
    "serving/contract.py": {"export", "evaluate"},
    "serving/bundle.py": {"export", "evaluate"},
    "serving/request.py": {"export", "evaluate"},
    "serving/originals.py": {"evaluate"},
    "serving/reconciler.py": NOTHING,
    "serving/server.py": NOTHING,
    "serving/repository.py": NOTHING,
    "serving/scoring.py": NOTHING,
    "serving/backends/action_recognition/model.py": NOTHING,
    "pretext/__init__.py": {"pretrain"},
    "pretext/task.py": {"pretrain"},
    "pretext/pace.py": {"pretrain"},
    "pretext/clip_order.py": NOTHING,
    "training/pretext.py": {"pretrain"},
    "training/__init__.py": TRAINED,
    "training/loop.py": {"pretrain", "finetune"},
    "training/data.py": TRAINED - {"export"},
    "training/networks.py": TRAINED,
    "training/weights.py": TRAINED,
    "backbones/__init__.py": TRAINED,
    "backbones/resnet3d.py": TRAINED,
    "backbones/c3d.py": NOTHING,
    "footage/sample.py": {"sample"},
    "footage/index.py": EVERY - {"export"},
    "footage/labels.py": NOTHING,
    "footage/annotation.py": {"sample"},
    "footage/splits.py": {"sample"},
    "footage/keys.py": {"sample", "evaluate"},
    "footage/provenance.py": {"export", "evaluate"},
    "footage/catalogue.py": {"sample"},
    "footage/encoding.py": {"sample"},
    "footage/shards.py": {"sample"},
    "footage/assembly.py": {"sample"},
    "footage/workers.py": {"sample"},
    "footage/filters.py": {"sample"},
    "footage/archive.py": NOTHING,
    "footage/forget.py": NOTHING,
    "footage/reader.py": TRAINED - {"export"},
    "footage/colour.py": TRAINED,
    "video/source.py": {"sample", "export", "evaluate"},
    "video/clock.py": {"sample", "export", "evaluate"},
    "video/geometry.py": {"sample", "export", "evaluate"},
    "video/decode.py": {"sample", "export", "evaluate"},
    "video/probe.py": {"sample"},
    "video/encode.py": {"sample", "export", "evaluate"},
    "video/reencode.py": {"export", "evaluate"},
    "video/coding.py": {"export", "evaluate"},
    "video/shrink.py": TRAINED,
    "video/motion.py": {"sample"},
    "video/content.py": {"sample"},
    "video/frames.py": EVERY,
    "video/windows.py": {"sample"},
    "video/clips.py": TRAINED,
    "demo/films.py": NOTHING,
    "demo/actions.py": NOTHING,
    "demo/dataset.py": NOTHING,
    "demo/drawing.py": NOTHING,
    "evaluation/__init__.py": {"evaluate"},
    "evaluation/statistics.py": {"evaluate"},
    "evaluation/probes.py": {"evaluate"},
    "evaluation/report.py": {"evaluate"},
    "evaluation/served.py": {"evaluate"},
    "tracking/gate.py": NOTHING,
    "tracking/registry.py": NOTHING,
    "orchestration/run.py": NOTHING,
    "kubeflow/profile.py": NOTHING,
    "comparing/tables.py": NOTHING,
    "forecast/forecast.py": NOTHING,
    "doctor/checks.py": NOTHING,
    "commands/run.py": NOTHING,
    "cli/steps.py": NOTHING,
    "console.py": NOTHING,
    "servers.py": NOTHING,
    "processes.py": NOTHING,
    "acceptance.py": NOTHING,
    "ledger.py": NOTHING,
    "config.py": NOTHING,
    "digests.py": NOTHING,
    "errors.py": NOTHING,
    "home.py": NOTHING,
    "plugins.py": NOTHING,
    "progress.py": NOTHING,
    "store/store.py": NOTHING,
    "store/manifest.py": NOTHING,
    "__init__.py": NOTHING,
    "steps/__init__.py": NOTHING,
    "steps/base.py": NOTHING,
    "steps/belonging.py": NOTHING,
    "steps/named.py": NOTHING,
    "steps/identity.py": NOTHING,
    "steps/pin.py": NOTHING,
    "steps/sample.py": {"sample"},
    "steps/pretrain.py": {"pretrain"},
    "steps/finetune.py": {"finetune"},
    "steps/evaluate.py": {"evaluate"},
    "steps/export.py": {"export"},
    "steps/register.py": NOTHING,
    "steps/promote.py": NOTHING,
    "steps/deploy.py": NOTHING,
}
"""What runs again after a change of code, where the steps before it make the bytes that they made before."""


def test_a_change_of_code_re_runs_what_depends_on_it_and_nothing_else(planner: Planner) -> None:
    recipe = load_recipe("pace-r2plus1d", size="cpu")
    planner.bytes_differ = False
    before = planner.refs(recipe)
    found = {}
    for name in RUNS_AGAIN:
        path = planner.root / "rushes" / name
        text = path.read_text()
        path.write_text(text + "\n_CHANGED = True\n")
        if RUNS_AGAIN[name]:
            found[name] = changed(before, planner.refs(recipe))
            path.write_text(text)
    assert found == {name: again for name, again in RUNS_AGAIN.items() if again}
    assert planner.refs(recipe) == before, "the code of all other rows is changed by now"


@pytest.mark.parametrize(
    ("name", "again"),
    [("footage/splits.py", EVERY), ("training/loop.py", TRAINED), ("steps/finetune.py", TUNED)],
)
def test_other_bytes_re_run_what_follows(planner: Planner, name: str, again: set[str]) -> None:
    recipe = load_recipe("pace-r2plus1d", size="cpu")
    before = planner.refs(recipe)
    path = planner.root / "rushes" / name
    path.write_text(path.read_text() + "\n_CHANGED = True\n")
    assert changed(before, planner.refs(recipe)) == again


def test_no_step_reaches_a_task_a_network_or_the_demonstration() -> None:
    for step in CACHED:
        names = project_imports(f"rushes.steps.{step}", root=PACKAGE.parent)
        assert not any(name.startswith("rushes.demo") for name in names)
        for package, shared in (("pretext", "task"), ("backbones", "backbone")):
            shared_modules = {f"rushes.{package}", f"rushes.{package}.{shared}"}
            assert {name for name in names if name.startswith(f"rushes.{package}")} <= shared_modules


def test_the_table_names_every_package() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == {Path(name).parts[0] for name in RUNS_AGAIN if "/" in name}


def test_the_reports_template_is_code_of_evaluation(planner: Planner) -> None:
    recipe = load_recipe("vcop-r3d")
    before = planner.refs(recipe)
    template = planner.root / "rushes" / "evaluation" / "templates" / "report.html"
    template.write_text(template.read_text() + "<!-- -->")
    assert changed(before, planner.refs(recipe)) == {"evaluate"}


def test_comments_docstrings_and_layout_re_run_nothing(planner: Planner) -> None:
    recipe = load_recipe("vcop-r3d", size="cpu")
    before = planner.refs(recipe)
    for path in (planner.root / "rushes").rglob("*.py"):
        path.write_text(f"# A comment.\n\n{reworded(path.read_text())}\n\n# Another.\n")
    assert planner.refs(recipe) == before


def reworded(source: str) -> str:
    """The source with another first word in every docstring, those of fields too."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace('"""', '"""Reworded. ', 1)
    return "".join(lines)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1", "x   =   1  # one", True),
        ('def f():\n    """A."""\n    return 1', "def f():\n    return 1", True),
        ('class A:\n    x: int\n    """A field."""', 'class A:\n    x: int\n    """The field."""', True),
        ('def f():\n    """A."""', "def f():\n    pass", True),
        ("x = 1", "x = 2", False),
        ("x = 'a'", "x = 'b'", False),
        ("def f(): return 1", "def f(): return 2", False),
        ("def f(x=1): pass", "def f(x=2): pass", False),
    ],
)
def test_the_essence_is_what_runs(one: str, other: str, same: bool) -> None:
    assert (_parsed(one).essence == _parsed(other).essence) is same


def test_imports_are_followed_wherever_they_stand(tmp_path: Path) -> None:
    package = tmp_path / "rushes"
    for name, text in {
        "__init__": "",
        "a": "def f():\n    from rushes.sub import b",
        "sub/__init__": "import rushes.c as c",
        "sub/b": "if True:\n    from rushes import d",
        "c": "import rushes.a",
        "d": "import torch",
        "e": "",
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = project_imports("rushes.a", root=tmp_path)
    assert found == {"rushes.a", "rushes.sub", "rushes.sub.b", "rushes.c", "rushes.d"}


def test_no_module_imports_in_a_way_that_digests_do_not_follow() -> None:
    names = set().union(*(project_imports(f"rushes.steps.{step}", root=PACKAGE.parent) for step in CACHED))
    assert len(names) > 20
    for module in names:
        path = PACKAGE.parent.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            assert name not in ("import_module", "__import__"), f"{path}: import by a name made at run time"


def test_plumbing_names_modules_that_exist() -> None:
    for name in PLUMBING:
        path = PACKAGE.parent.joinpath(*name.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


# Recipes -------------------------------------------------------------------------------------------------------------

SECTIONS = {
    "sample": EVERY,
    "pretrain": TRAINED,
    "finetune": TUNED,
    "evaluate": {"evaluate"},
    "export": {"export", "evaluate"},
    "register": NOTHING,
    "promote": NOTHING,
    "deploy": NOTHING,
}


def other(value: Any) -> Any:
    """Some other value that the field allows."""
    choices = {"sgd": "adamw", "constant": "cosine", "better": "non_inferior", "fp32": "bf16", 26: 27, None: 1.0}
    if isinstance(value, bool):
        return not value
    if isinstance(value, Mapping):
        return {**value, "more": 1}
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, lr=0.5)  # type: ignore[type-var]
    if isinstance(value, str):
        return choices.get(value, f"{value}x")
    return choices.get(value, (value * 0.96 or 0.5) if isinstance(value, float) else value + 2)


def test_a_change_of_a_field_re_runs_its_step_and_what_follows(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "step_code", functools.cache(step_code))  # no code changes here
    (tmp_path / "weights.pth").write_bytes(b"weights")
    recipe = load_recipe("vcop-r3d")
    before = planner.refs(recipe)
    for section, again in SECTIONS.items():
        values = getattr(recipe, section)
        for f in dataclasses.fields(values):
            allowed = {
                "opset": 19,
                "accumulate": 2,
                "freeze": "backbone",
                "short_side": 120,
                "init": str(tmp_path / "weights.pth"),
                "task": "opn",
                "backbone": "c3d",
            }
            smaller = allowed.get(f.name, other(getattr(values, f.name)))
            change = dataclasses.replace(values, **{f.name: smaller})
            after = planner.refs(dataclasses.replace(recipe, **{section: change}))
            free = not f.metadata.get("digest", True)
            assert changed(before, after) == (NOTHING if free else again), f"{section}.{f.name}"
    assert {f.name for f in dataclasses.fields(recipe)} == {*SECTIONS, "seed", "name", "about", "plugins"}


def test_the_seed_re_runs_training_and_the_name_nothing(planner: Planner) -> None:
    recipe = load_recipe("vcop-r3d")
    before = planner.refs(recipe)
    assert changed(before, planner.refs(dataclasses.replace(recipe, seed=1))) == TRAINED
    assert changed(before, planner.refs(dataclasses.replace(recipe, name="mine"))) == NOTHING


def test_the_random_baseline_is_an_output_of_its_own(planner: Planner) -> None:
    refs = planner.refs(load_recipe("vcop-r3d"))
    assert refs["baseline"] != refs["finetune"]


# Real steps ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """All steps, done once."""
    folder = tmp_path_factory.mktemp("chain")
    write_videos(folder / "videos", files=3)
    chain = Chain(folder, folder / "videos")
    with chain.in_use():
        assert chain.run() == EVERY
    return chain


@pytest.fixture
def chain(finished: Chain) -> Iterator[Chain]:
    """The code of this checkout, and a store with the outputs of all steps."""
    with finished.in_use():
        yield finished
    finished.restore()


def test_where_nothing_changed_nothing_runs_again(chain: Chain) -> None:
    assert chain.run() == NOTHING


def test_a_new_task_and_a_new_network_re_run_nothing_and_are_trained(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in (rushes.pretext, rushes.backbones):
        own = str(chain.package / package.__name__.partition(".")[2])
        monkeypatch.setattr(package, "__path__", [*package.__path__, own])
    (chain.package / "pretext" / "mine.py").write_text(
        "from rushes.pretext.pace import Pace\n\n\nclass Mine(Pace):\n    pass\n\n\nTASKS = {'mine': Mine}\n"
    )
    (chain.package / "backbones" / "mine.py").write_text(
        "from rushes.backbones.resnet3d import ResNet3D\n\n"
        "BACKBONES = {'mine': lambda: ResNet3D(factored=False, widths=(4, 4, 4, 4))}\n"
    )
    assert chain.run() == NOTHING
    assert chain.run({"pretrain": {"task": "mine", "backbone": "mine"}}, until="pretrain") == {"pretrain"}
    assert {kind: used["name"] for kind, used in chain.manifest("backbone")["config"]["definitions"].items()} == {
        "task": "mine",
        "backbone": "mine",
    }


def test_a_changed_task_re_runs_pretraining_by_it_and_what_follows_other_weights(chain: Chain) -> None:
    chain.edit("pretext/opn.py", "is not allowed", "is wrong")
    assert chain.run(until="pretrain") == NOTHING
    chain.edit("pretext/pace.py", "is not allowed", "is wrong")
    assert chain.run() == {"pretrain"}
    made = chain.manifest("backbone")
    assert made["inputs"]["footage"] == chain.ended[0]["ref"]


def test_a_message_of_splits_re_runs_sample_which_encodes_nothing_and_one_of_labels_nothing(chain: Chain) -> None:
    chain.edit("footage/labels.py", "exclude each other", "cannot both be given")
    assert chain.run() == NOTHING
    chain.edit("footage/splits.py", "on both sides of test", "in two splits")
    assert chain.run() == {"sample"}
    assert chain.ended[0]["summary"]["new_shards"] == 0


def test_another_ffmpeg_re_runs_sample_and_what_follows_only_where_bytes_differ(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "library_versions", av.library_versions | {"libavcodec": (99, 0, 0)})
    assert chain.run() == {"sample"}
    assert chain.ended[0]["summary"]["new_shards"] > 0
    other_bytes = (
        "import av, rushes.video.encode as module\n"
        "av.library_versions = av.library_versions | {'libavcodec': (100, 0, 0)}\n"
        "plain = module.encode_h264\n"
        "module.encode_h264 = lambda *frames, qp, **options: plain(*frames, qp=qp + 9, **options)\n"
    )
    assert chain.run_elsewhere(other_bytes, until="finetune") == {"sample", "pretrain", "finetune"}


def test_another_minor_version_of_torch_re_runs_what_computes_with_it_and_a_patch_release_nothing(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version
    major, minor, _ = version("torch").split(".", 2)
    for new, expected in ((f"{major}.{minor}.99", NOTHING), (f"{major}.{int(minor) + 1}.0", TRAINED)):
        monkeypatch.setattr(metadata, "version", lambda name, new=new: new if name == "torch" else version(name))
        assert chain.run() == expected


def test_outputs_of_earlier_code_stand_by_a_persons_word(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert chain.run() == NOTHING
    before = {name: chain.manifest(name) for name in ("backbone", "tuned")}
    chain.edit("training/loop.py", "def fit(", "CHANGED = 1\n\n\ndef fit(")
    for step, name in (("pretrain", "backbone"), ("finetune", "tuned")):
        accept(step, f"{step}/{before[name]['digest']}", "--by", "ada")
    assert chain.run() == NOTHING
    for name, earlier in before.items():
        accepted = chain.manifest(name)
        assert accepted["files"] == earlier["files"] and accepted["digest"] != earlier["digest"]
        word = accepted["accepted"]
        assert (word["ref"], word["code"]) == (f"{earlier['step']}/{earlier['digest']}", earlier["code"])
        assert (word["reason"], word["by"]) == ("a reason", "ada") and word["time"]
        assert "accepted" not in earlier
    capsys.readouterr()
    run_command(["store", "accepted"])
    assert "a reason" in (listed := capsys.readouterr().out) and before["tuned"]["code"] in listed
    # Of later code, by a word about the code between; without one, training runs and makes the same.
    between = chain.manifest("backbone")["code"]
    chain.edit("training/loop.py", "CHANGED = 1", "CHANGED = 2")
    accept("pretrain", between)
    assert chain.run(until="pretrain") == NOTHING
    assert chain.run() == {"finetune"}


def test_a_word_about_a_changed_task_is_about_that_change_only(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain.run(until="pretrain") == NOTHING
    made = chain.manifest("backbone")
    earlier = made["config"]["definitions"]["task"]["code"]
    chain.edit("pretext/pace.py", "is not allowed", "is mistaken")
    accept("pretrain", ref(made))
    assert f"with task pace by code {earlier} for " in " ".join(capsys.readouterr().out.split())
    run_command(["store", "accepted"])
    assert f"task pace by code {earlier} for " in " ".join(capsys.readouterr().out.split())
    assert chain.run(until="pretrain") == NOTHING
    chain.edit("pretext/pace.py", "is mistaken", "is not so")
    assert chain.run(until="pretrain") == {"pretrain"}


def test_outputs_by_several_codes_of_a_task_are_accepted_one_by_one(chain: Chain) -> None:
    """The person means the loop; the outputs by the task's code before are another matter."""
    chain.edit("pretext/pace.py", "is not allowed", "is of another code")
    chain.edit("training/loop.py", "def fit(", "SEVERAL = 0\n\n\ndef fit(")
    assert chain.run(until="pretrain") == {"pretrain"}
    one = chain.manifest("backbone")
    chain.edit("pretext/pace.py", "is of another code", "is of a third code")
    assert chain.run({"pretrain": {"epochs": 2}}, until="pretrain") == {"pretrain"}
    other = chain.manifest("backbone")
    assert other["code"] == one["code"]
    chain.edit("training/loop.py", "SEVERAL = 0", "SEVERAL = 1")
    with pytest.raises(UserError, match="with several codes of task pace") as refused:
        accept("pretrain", one["code"])
    assert all(ref(made) in str(refused.value) for made in (one, other))
    accept("pretrain", ref(other))
    assert chain.run({"pretrain": {"epochs": 2}}, until="pretrain") == NOTHING
    assert chain.run(until="pretrain") == {"pretrain"}, "it was made by the task's code before"


@pytest.mark.parametrize("text", ["{", "[]", '{"step": "pretrain"}', '{"definitions": [{"kind": "task"}]}'])
def test_a_damaged_acceptance_is_named(text: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("accepted/pretrain/notes.txt", b"why")
    assert acceptances(store, "pretrain") == []
    store.write("accepted/pretrain/0123.json", text.encode())
    with pytest.raises(UserError, match=r"^accepted/pretrain/0123\.json: not an acceptance \(.*: remove the "):
        acceptances(store, "pretrain")


def test_a_user_without_a_name_gives_one(chain: Chain) -> None:
    """Such as a container's user id that is in no list of users."""
    assert chain.run(until="pretrain") == NOTHING
    # In a process by the copy's code, which knows of the change to itself.
    chain.edit("training/loop.py", "def fit(", "NAMELESS = 1\n\n\ndef fit(")
    nameless = (
        "import os, pwd\n"
        "for name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME'):\n    os.environ.pop(name, None)\n"
        "pwd.getpwuid = {}.__getitem__\n"
        "from rushes.cli import main\nraise SystemExit(main())\n"
    )
    command = (sys.executable, "-c", nameless, "store", "accept", "pretrain", "--from", ref(chain.manifest("backbone")))
    environment = os.environ | {"PYTHONPATH": str(chain.package.parent)}
    refused = subprocess.run([*command, "--reason", "a name"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == "rushes: by: the user has no name on this machine: give --by NAME\n"


def test_a_model_of_version_0_1_stands_by_a_persons_word(chain: Chain) -> None:
    assert chain.run(until="pretrain") == NOTHING
    made = chain.manifest("backbone")
    of_0_1 = {**made["config"], "contrast": 0.0, "draws_per_window": 1}
    del of_0_1["definitions"]
    record = made | {"code": "0101", "digest": "0123", "config": of_0_1}
    (chain.home / "store" / "steps" / "pretrain" / "0123.json").write_text(json.dumps(record))
    chain.edit("training/loop.py", "def fit(", "CHANGED = 3\n\n\ndef fit(")
    accept("pretrain", "0101")
    assert chain.run({"pretrain": {"options": {"strides": 3}}}, until="pretrain") == {"pretrain"}, "another recipe"
    assert chain.run(until="pretrain") == NOTHING
    assert chain.manifest("backbone")["accepted"]["ref"] == "pretrain/0123"
    chain.edit("training/loop.py", "CHANGED = 3", "CHANGED = 4")
    (chain.home / "store" / "steps" / "pretrain" / "0123.json").write_text(
        json.dumps(record | {"config": of_0_1 | {"contrast": 0.5}})
    )
    accept("pretrain", "0101")
    assert chain.run(until="pretrain") == {"pretrain"}, "it was trained with a loss that is gone"


def test_footage_of_accepted_code_is_used_where_the_archive_grew(chain: Chain, tmp_path: Path) -> None:
    assert chain.run(until="sample") == NOTHING
    made = chain.manifest("footage")
    chain.edit("footage/shards.py", "def write_shard(", "CHANGED = 1\n\n\ndef write_shard(")
    accept("sample", made["code"])
    assert chain.run(until="sample") == NOTHING
    shutil.copytree(chain.videos, tmp_path / "videos")
    write_videos(tmp_path / "more", files=1, seed=5)
    shutil.copy(tmp_path / "more" / "moving" / "v00.mp4", tmp_path / "videos" / "moving" / "new.mp4")
    chain.edit("footage/shards.py", "CHANGED = 1", "CHANGED = 2")
    accept("sample", chain.manifest("footage")["code"])
    assert chain.run(until="sample", videos=tmp_path / "videos") == {"sample"}
    grown = chain.manifest("footage")["summary"]
    assert grown["segments"] == made["summary"]["segments"] + 1
    assert grown["new_shards"] == 1 and grown["new_bytes"] < made["summary"]["new_bytes"] / 3


@pytest.mark.parametrize(
    ("step", "code", "flags", "words"),
    [
        ("pretrain", "today", (), "reason: empty is not allowed"),
        ("pretrain", "today", ("--reason", " "), "reason: empty is not allowed"),
        ("evaluate", "today", ("--reason", "why"), "is today's code of evaluate"),
        ("register", "today", ("--reason", "why"), "step: 'register' is not a step that is answered from the store"),
        ("pretrain", "0123", ("--reason", "why"), "was made by code '0123'; the codes are"),
        ("measure", "0123", ("--reason", "why"), "there is none of any code"),
    ],
)
def test_what_cannot_be_accepted_is_refused(
    step: str, code: str, flags: tuple[str, ...], words: str, chain: Chain
) -> None:
    store = open_store()
    today = step_code("evaluate" if step == "evaluate" else "pretrain")
    records = store.names(f"accepted/{step}")
    with pytest.raises(UserError) as refused:
        run_command(["store", "accept", step, "--from", today if code == "today" else code, *flags])
    assert words in str(refused.value)
    if code == "0123" and step == "pretrain":
        assert re.search(rf"{today} \(\d+ outputs?, last 20\d\d-\d\d-\d\d\)", str(refused.value))
    assert store.names(f"accepted/{step}") == records


def run_command(arguments: list[str]) -> None:
    assert parse(arguments).execute() == 0


def accept(step: str, earlier: str, *flags: str) -> None:
    run_command(["store", "accept", step, "--from", earlier, "--reason", "a reason", *flags])


def ref(made: Mapping[str, Any]) -> str:
    return f"{made['step']}/{made['digest']}"


# Digests -------------------------------------------------------------------------------------------------------------

plain = st.dictionaries(st.text(max_size=3), st.integers() | st.floats() | st.text(max_size=3), max_size=4)


@given(config=plain, inputs=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3))
def test_a_digest_does_not_depend_on_order_and_depends_on_all_else(
    config: dict[str, Any], inputs: dict[str, str]
) -> None:
    digest = step_digest(step="a", config=config, inputs=inputs, code="c")
    backwards = {key: config[key] for key in reversed(config)}
    assert step_digest(step="a", config=backwards, inputs=inputs, code="c") == digest
    assert len(digest) == 16
    others = {
        step_digest(step="b", config=config, inputs=inputs, code="c"),
        step_digest(step="a", config=config, inputs=inputs, code="d"),
        step_digest(step="a", config={**config, "new": 1}, inputs=inputs, code="c"),
        step_digest(step="a", config=config, inputs={**inputs, "new": "1"}, code="c"),
    }
    assert len(others | {digest}) == 5
