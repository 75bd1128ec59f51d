"""What training begins with, through the real steps: a file's weights, an earlier run's, and what is no weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rushes.backbones import make_backbone
from rushes.cli import main, parse
from rushes.config import Recipe
from rushes.errors import UserError
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.store import Manifest
from tests.integration.conftest import write_videos

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
    "--pretrain.samples_per_epoch",
    "4",
    "--pretrain.epochs",
    "1",
    "--finetune.epochs",
    "1",
    "--finetune.workers",
    "0",
    "--pretrain.backbone",
    "tiny_r3d",
    # So small a step that the weights still tell where they began.
    "--pretrain.optimizer.lr",
    "1e-9",
    "--finetune.optimizer.lr",
    "1e-9",
)


def recipe_of(*flags: str) -> Recipe:
    recipe: Recipe = parse(["run", *SMALL, "--videos", "x", *flags]).full_recipe  # type: ignore[attr-defined]
    return recipe


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with footage of eight small videos, and a pretrained backbone."""
    home = tmp_path_factory.mktemp("home")
    write_videos(home / "videos", files=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(home))
        pin(data=DataReference(videos=str(home / "videos")), out=home / "pin.json")
        sample(recipe=recipe_of(), pin=home / "pin.json", out=home / "footage.json")
        pretrain(recipe=recipe_of("--seed", "5"), footage=home / "footage.json", out=home / "backbone.json")
        yield home


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a network."""
    torch.manual_seed(9)
    torch.save(make_backbone("tiny_r3d").state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def weights_of(manifest: Manifest, *, prefix: str = "") -> dict[str, Tensor]:
    found = load_file(open_store().checked(manifest.files["weights.safetensors"]))
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def began_from(now: dict[str, Tensor], start: dict[str, Tensor]) -> bool:
    """Whether the convolutions are where they were; the statistics of batch norm have moved on."""
    return all(torch.allclose(now[key], start[key], atol=1e-6) for key in start if start[key].ndim == 5)


def pretrained(home: Path, *flags: str) -> Manifest:
    return pretrain(recipe=recipe_of(*flags), footage=home / "footage.json", out=home / "out.json")


def tuned(home: Path, init: str) -> Manifest:
    places = {"footage": home / "footage.json", "backbone": home / "backbone.json", "out": home / "tuned.json"}
    return finetune(recipe=recipe_of(), init=init, **places)


def test_pretraining_begins_with_a_files_weights(home: Path, file: Path) -> None:
    start = torch.load(file, weights_only=True)
    assert began_from(weights_of(pretrained(home, "--pretrain.init", str(file))), start)
    assert not began_from(weights_of(pretrained(home)), start)


def test_pretraining_goes_on_from_an_earlier_run_which_is_its_input(home: Path) -> None:
    earlier = Manifest.read(home / "backbone.json")
    later = pretrained(home, "--pretrain.init", str(home / "backbone.json"))
    assert began_from(weights_of(later), weights_of(earlier))
    assert later.inputs["init"] == earlier.ref and later.config["init"] == earlier.content


def test_fine_tuning_begins_with_what_it_is_told(home: Path, file: Path) -> None:
    starts = {
        "pretrained": weights_of(Manifest.read(home / "backbone.json")),
        str(file): torch.load(file, weights_only=True),
    }
    for init in ("pretrained", "random", str(file)):
        now = weights_of(tuned(home, init), prefix="backbone.")
        assert [name for name, start in starts.items() if began_from(now, start)] == [init] * (init != "random")


def test_a_classifier_may_be_begun_from_and_its_head_is_new(home: Path) -> None:
    classifier = tuned(home, "pretrained")
    (home / "tuned.json").rename(home / "classifier.json")
    again = tuned(home, str(home / "classifier.json"))
    assert again.inputs["init"] == classifier.ref
    assert began_from(weights_of(again, prefix="backbone."), weights_of(classifier, prefix="backbone."))


def test_a_files_content_counts_and_its_place_does_not(home: Path, file: Path, tmp_path: Path) -> None:
    one = pretrained(home, "--pretrain.init", str(file))
    moved = file.rename(tmp_path / "other_name")
    assert pretrained(home, "--pretrain.init", str(moved)).ref == one.ref
    first = tuned(home, str(moved))
    torch.save(make_backbone("tiny_r3d").state_dict(), moved)
    assert pretrained(home, "--pretrain.init", str(moved)).ref != one.ref
    assert tuned(home, str(moved)).ref != first.ref
    assert str(tmp_path) not in one.to_json() + first.to_json()


def test_a_path_is_found_from_any_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert recipe_of("--pretrain.init", "weights.pth").pretrain.init == str(file)


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("nowhere.pth", "pretrain.init: '{folder}/nowhere.pth' cannot be read (No such file or directory)"),
        ("footage.json", "pretrain.init: '{folder}/footage.json' points to a footage; a backbone or a classifier has"),
        ("videos/moving/v00.mp4", "pretrain.init {folder}/videos/moving/v00.mp4: no state dict of torch or safetens"),
        ("other.pth", "pretrain.init {folder}/other.pth: weights of another network: of "),
    ],
)
def test_what_is_no_start_is_one_line_and_exit_code_2(
    home: Path, init: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_PROGRESS", "")  # the command sets it
    torch.save(make_backbone("tiny_frame").state_dict(), home / "other.pth")
    places = ("--footage", str(home / "footage.json"), "--out", str(home / "out.json"))
    assert main(["pretrain", *SMALL, "--pretrain.init", str(home / init), *places]) == 2
    shown = capsys.readouterr().err.replace("\n", "").replace(" ", "")
    assert words.format(folder=home).replace(" ", "") in shown


def test_an_init_that_is_neither_a_word_nor_a_file_names_the_words(home: Path) -> None:
    with pytest.raises(UserError, match="init: 'pretraind' is not allowed; pretrained, random, or a file of weights"):
        tuned(home, "pretraind")
