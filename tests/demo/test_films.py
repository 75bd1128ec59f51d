"""The synthetic films: the same bytes in every run, and classes that differ only in motion."""

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp, kstest

from rushes.demo import dataset
from rushes.demo.actions import CLASSES, PLACES, Kind, Take, draw_states
from rushes.demo.dataset import SyntheticDataset, labels_csv, write_dataset
from rushes.demo.drawing import RADIUS, States, draw_family, draw_frames, draw_look
from rushes.demo.films import FPS, SIZES, SyntheticSize, draw_film, plan_films
from rushes.errors import UserError
from rushes.progress import NullProgress
from rushes.video.encode import encode_h264
from rushes.video.probe import probe
from tests.decoding import decode_all

DRAWN_SHA256 = "5b85ec519d7ee6d181416633db1136ace593518444a3ad3605f9a4011c1f7ae3"
"""Of some films' frames before the encoder. If drawing changes on purpose, raise dataset._VERSION with it."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return write_dataset(tmp_path_factory.mktemp("films") / "tiny", seed=0, size="tiny", workers=1)


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(films: SyntheticDataset) -> list[dict[str, str]]:
    return list(csv.DictReader(films.labels.read_text().splitlines()))


# Bytes ---------------------------------------------------------------------------------------------------------------


def test_workers_do_not_change_a_byte(tiny: SyntheticDataset, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", seed=0, size="tiny", workers=2)
    assert _digests(tmp_path / "again") == _digests(tiny.folder)


def test_drawn_frames_are_the_committed_ones() -> None:
    digest = hashlib.sha256()
    for film in plan_films(seed=0, size="tiny")[::9]:
        for frame in draw_film(film, seed=0):
            digest.update(frame.tobytes())
    assert digest.hexdigest() == DRAWN_SHA256


def test_another_seed_draws_other_films(tiny: SyntheticDataset) -> None:
    films = plan_films(seed=1, size="tiny")
    assert films != plan_films(seed=0, size="tiny")
    assert not np.array_equal(next(draw_film(films[0], seed=1)), next(draw_film(films[0], seed=0)))
    assert len(set(_digests(tiny.folder).values())) == tiny.files + 2  # no two files alike; labels.csv, dataset.json


class _StopsAfter(NullProgress):
    """A user who loses patience."""

    def __init__(self, films: int) -> None:
        self.left = films

    def bar(self, label: str, *, total: float, unit: str) -> "_StopsAfter":
        return self

    def advance(self, count: float = 1, **stats: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_completes_to_the_same_bytes(tiny: SyntheticDataset, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    with pytest.raises(KeyboardInterrupt):
        write_dataset(folder, seed=0, size="tiny", workers=1, progress=_StopsAfter(20))
    (folder / "train" / ".part-left-by-a-kill").write_bytes(b"half a film")
    done = [path for path in folder.rglob("*.mp4")]
    times = {path: path.stat().st_mtime_ns for path in done}
    assert len(done) == 20 and not (folder / "labels.csv").exists()

    write_dataset(folder, seed=0, size="tiny", workers=1)
    assert _digests(folder) == _digests(tiny.folder)
    assert {path: path.stat().st_mtime_ns for path in done} == times, "films that stood were drawn again"


def test_a_complete_folder_is_left_alone(tiny: SyntheticDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _digests(tiny.folder)
    monkeypatch.setattr(dataset, "_write_film", None)
    assert write_dataset(tiny.folder, seed=0, size="tiny") == tiny
    assert _digests(tiny.folder) == before


def test_folders_of_others_are_refused(tiny: SyntheticDataset, tmp_path: Path) -> None:
    before = _digests(tiny.folder)
    with pytest.raises(UserError, match="other settings"):
        write_dataset(tiny.folder, seed=1, size="tiny")
    assert _digests(tiny.folder) == before
    (tmp_path / "holiday.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="not empty"):
        write_dataset(tmp_path, size="tiny")
    with pytest.raises(UserError, match="size: 'huge' is not known; one of demo, tiny"):
        write_dataset(tmp_path / "new", size="huge")
    with pytest.raises(UserError, match="long_test_groups"):
        SyntheticSize(test_groups=2, long_test_groups=3)


# Contents ------------------------------------------------------------------------------------------------------------


def test_labels_name_files_that_are_there_and_intervals_inside_them(tiny: SyntheticDataset) -> None:
    rows = _rows(tiny)
    films = {str(path.relative_to(tiny.folder)) for path in tiny.folder.rglob("*.mp4")}
    assert {row["path"] for row in rows} == films
    assert len(films) == tiny.files
    seconds = {path: probe(tiny.folder / path) for path in films}
    assert {round(found.fps) for found in seconds.values()} == {FPS}
    assert sum(found.frames for found in seconds.values()) == tiny.frames
    ends: dict[str, float] = defaultdict(float)
    for row in (row for row in rows if row["start"]):
        start, end = float(row["start"]), float(row["end"])
        assert ends[row["path"]] <= start < end <= seconds[row["path"]].frames / FPS + 1e-9
        ends[row["path"]] = end
    assert len(ends) == SIZES["tiny"].long_train_groups + SIZES["tiny"].long_test_groups


@pytest.mark.parametrize(
    ("size", "classes"), [("tiny", CLASSES), ("demo", CLASSES), ("directed", CLASSES), ("places", PLACES)]
)
def test_groups_are_disjoint_and_show_every_class_once(size: str, classes: tuple[str, ...]) -> None:
    rows = list(csv.DictReader(labels_csv(plan_films(size=size)).splitlines()))
    groups: dict[str, set[str]] = defaultdict(set)
    counts = Counter((row["split"], row["group"], row["label"]) for row in rows)
    for row in rows:
        groups[row["split"]].add(row["group"])
        assert row["group"] in row["path"] and not any(name in row["path"] for name in classes)
    assert not groups["train"] & groups["test"] and not groups["unlabelled"] & (groups["train"] | groups["test"])
    for split, number in (("train", SIZES[size].train_groups), ("test", SIZES[size].test_groups)):
        assert len(groups[split]) == number
        assert all(counts[split, group, label] == 1 for group in groups[split] for label in classes)
    assert {row["label"] for row in rows if row["split"] == "unlabelled"} == {""}
    assert len(CLASSES) >= 8


def test_the_demo_is_as_large_as_promised() -> None:
    films = plan_films(size="demo")
    frames = Counter[str]()
    for film in films:
        frames[film.split] += film.frames
    assert 20_000 < frames["unlabelled"] < 27_000 and sum(frames.values()) < 50_000
    lengths = [film.frames / FPS for film in films if film.split == "unlabelled"]
    assert min(lengths) >= 2 and 30 <= max(lengths) <= 60
    assert max(Counter(film.takes[0].action for film in films if len(film.takes) == 1).values()) < 120


def test_places_are_where_they_say_and_nothing_else_tells_them() -> None:
    rng = np.random.default_rng(0)
    found = defaultdict(list)
    for name in PLACES * 60:
        states = draw_states(rng, (Take(action=name, frames=30),), width=100, height=100)
        found[name].append((states.x.mean(), states.y.mean(), states.turns[0], states.radius[0]))
    for number, name in enumerate(PLACES):
        x, y, turns, radius = np.array(found[name]).T
        angles = np.degrees(np.arctan2(y - 50, x - 50)) - 45 * number
        assert (np.abs((angles + 180) % 360 - 180) < 45).mean() > 0.95
        others = np.concatenate([np.array(found[other])[:, 2:] for other in PLACES if other != name])
        assert ks_2samp(turns, others[:, 0]).pvalue > 1e-3 and ks_2samp(radius, others[:, 1]).pvalue > 1e-3


# Only motion tells ---------------------------------------------------------------------------------------------------

_SIDE = 96


def _state_matrix(states: States) -> NDArray[np.float64]:
    """Place, angle and size, each from 0 to 1: [frames, 4]."""
    size = np.log(states.radius / RADIUS[0]) / np.log(RADIUS[1] / RADIUS[0])
    return np.stack([states.x / _SIDE, states.y / _SIDE, states.turns, size], axis=1)


@pytest.mark.parametrize("kind", ["actions", "directed"])
@pytest.mark.parametrize("action", ["", *CLASSES])
def test_every_state_is_uniform_at_every_moment_of_every_action(action: str, kind: Kind) -> None:
    takes = (Take(action="spin", frames=9), Take(action=action, frames=30))
    found = np.stack(
        [
            _state_matrix(draw_states(np.random.default_rng(n), takes, width=_SIDE, height=_SIDE, kind=kind))[
                [9, 16, 38]
            ]
            for n in range(1500)
        ]
    )
    for moment in range(3):
        for coordinate in range(4):
            assert kstest(found[:, moment, coordinate], "uniform").pvalue > 1e-4
        # Pairs of coordinates too: their sum on the circle is uniform only if they do not conspire.
        for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)):
            assert kstest((found[:, moment, a] + found[:, moment, b]) % 1, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(("kind", "least", "most"), [("actions", 0.4, 0.6), ("directed", 0.9, 1.0)])
def test_directed_actions_and_no_others_look_different_backwards(kind: Kind, least: float, most: float) -> None:
    from sklearn.ensemble import ExtraTreesClassifier

    changes = []
    for n, action in enumerate(CLASSES * 60):
        states = draw_states(
            np.random.default_rng(n), (Take(action=action, frames=24),), width=_SIDE, height=_SIDE, kind=kind
        )
        change = np.diff(_state_matrix(states), axis=0)
        changes.append((change + 0.5) % 1 - 0.5)  # the short way round
    forwards = np.array(changes)
    both = np.stack([forwards, -forwards[:, ::-1]], axis=1).reshape(2 * len(forwards), -1)
    answers, half = np.arange(len(both)) % 2, len(forwards)
    forest = ExtraTreesClassifier(100, random_state=0, n_jobs=2).fit(both[:half], answers[:half])
    assert least < forest.score(both[half:], answers[half:]) <= most


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Short films, encoded and decoded, each of one class."""

    looks: NDArray[np.float64]
    """What decoded frames look like: [films, frames, D]."""
    states: NDArray[np.float64]
    """Where the shape truly was in them: [films, frames, 4]."""
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


@pytest.fixture(scope="module")
def shown() -> Shown:
    looks, states, labels, groups = [], [], [], []
    for group in range(120):
        family = draw_family(np.random.default_rng([0, group]), width=_SIDE, height=_SIDE)
        for label, action in enumerate(CLASSES):
            rng = np.random.default_rng([1, group, label])
            look = draw_look(rng, family)
            truth = draw_states(rng, (Take(action=action, frames=8),), width=_SIDE, height=_SIDE)
            frames = decode_all(
                encode_h264(draw_frames(look, truth), fps=FPS, qp=dataset._QP, gop=dataset._GOP),
                short_side=_SIDE,
                fps=FPS,
            )
            looks.append(_looks(frames[1::2]))
            states.append(_state_matrix(truth)[1::2])
            labels.append(label)
            groups.append(group)
    return Shown(looks=np.stack(looks), states=np.stack(states), labels=np.array(labels), groups=np.array(groups))


def _looks(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Coarse pixels, histograms of luma and of gradients, and what the codec's blocks leave behind."""
    count, luma = len(frames), frames[:, :_SIDE].astype(np.float32)
    dy, dx = luma[:, 1:, :-1] - luma[:, :-1, :-1], luma[:, :-1, 1:] - luma[:, :-1, :-1]
    strength, octant = np.abs(dx) + np.abs(dy), (dx > 0) * 4 + (dy > 0) * 2 + (np.abs(dx) > np.abs(dy))
    levels = frames[:, :_SIDE] // 16
    parts = [
        luma.reshape(count, 8, 12, 8, 12).mean(axis=(2, 4)),
        frames[:, _SIDE:].reshape(count, 32, -1).mean(axis=2),
        np.stack([(levels == level).mean(axis=(1, 2)) for level in range(16)], axis=1),
        np.stack([(strength * (octant == k)).mean(axis=(1, 2)) for k in range(8)], axis=1),
        np.stack([np.abs(dx[:, :, k::8]).mean(axis=(1, 2)) for k in range(8)], axis=1),
        np.stack([np.abs(dy[:, k::8]).mean(axis=(1, 2)) for k in range(8)], axis=1),
    ]
    return np.concatenate([part.reshape(count, -1) for part in parts], axis=1).astype(np.float64)


def _accuracy(features: NDArray[np.float64], shown: Shown) -> tuple[float, float]:
    """Classifies [films, frames, D] frame by frame; returns the 99 % interval on the second half of the groups."""
    from sklearn.ensemble import ExtraTreesClassifier  # here: most of a second, in every process of the tests

    half = (shown.groups.max() + 1) // 2
    learn = np.repeat(shown.groups < half, features.shape[1])
    flat, labels = features.reshape(-1, features.shape[2]), np.repeat(shown.labels, features.shape[1])
    forest = ExtraTreesClassifier(80, max_features=0.4, min_samples_leaf=8, n_jobs=2, random_state=0)
    right = forest.fit(flat[learn], labels[learn]).predict(flat[~learn]) == labels[~learn]
    by_group = right.reshape(half, -1).mean(axis=1)
    draws = np.random.default_rng(0).integers(half, size=(4000, half))
    low, high = np.quantile(by_group[draws].mean(axis=1), [0.005, 0.995])
    return float(low), float(high)


_CHANCE = 1 / len(CLASSES)


@pytest.mark.parametrize("view", ["looks", "states"])
def test_a_single_frame_tells_nothing_and_its_change_tells_the_class(shown: Shown, view: str) -> None:
    features = getattr(shown, view)
    low, high = _accuracy(features, shown)
    assert low <= _CHANCE <= high
    # The same classifier of the same features, given how they change: the test above could have failed.
    change = np.abs(np.diff(features, axis=1)).reshape(len(features), 1, -1)
    low, _ = _accuracy(change, shown)
    assert low > (4 if view == "states" else 2) * _CHANCE


def test_a_planted_cue_is_found(shown: Shown) -> None:
    marked = (shown.labels == CLASSES.index("orbit"))[:, None, None]
    lighter = np.concatenate([shown.looks[:, :, :64] + 12 * marked, shown.looks[:, :, 64:]], axis=2)
    assert _accuracy(lighter, shown)[0] > _CHANCE
    higher = np.where(marked & (np.arange(4) == 1), shown.states / 4, shown.states)
    assert _accuracy(higher, shown)[0] > _CHANCE
