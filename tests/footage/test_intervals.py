"""Times that cannot be seconds are refused in the unit that they are, and times that can be are not."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.intervals import check_intervals
from rushes.footage.labels import read_annotations
from rushes.footage.segment_plan import Failure
from rushes.video.probe import Probe
from tests.footage.conftest import Sampler, write_video
from tests.footage.test_segments import content, lasting, sources


def checked(annotations: list[Annotation], probes: dict[str, Probe | Failure]) -> None:
    check_intervals(annotations, sources(*probes), {content(path): probe for path, probe in probes.items()})


def test_a_table_in_milliseconds_is_refused_before_anything_is_encoded(tmp_path: Path, sample: Sampler) -> None:
    for n, name in enumerate(("r1.mp4", "r2.mp4", "h1.mp4", "h2.mp4")):
        write_video(tmp_path / "videos" / name, frames=100, first=20 * n)
    labels = tmp_path / "ms.csv"
    labels.write_text(
        "path,label,start,end\nr1.mp4,run,1000,3000\nr2.mp4,run,0,2500\nh1.mp4,jump,0,2500\nh2.mp4,jump,1500,3500\n"
    )
    annotations = read_annotations(None, ["h1.mp4", "h2.mp4", "r1.mp4", "r2.mp4"], labels=labels)
    with pytest.raises(UserError) as caught:
        sample(tmp_path / "videos", annotations)
    assert str(caught.value) == (
        "labels: the intervals of 2 rows begin after their files' end, the intervals of 4 rows end long after their "
        "files' end, of 4 in all ('r1.mp4': 1000 to 3000, and the file ends at 4 s): start and end are seconds from "
        "the file's start; as milliseconds all of them fit: divide them by 1000"
    )


def test_few_intervals_after_the_end_are_left_to_the_quarantine() -> None:
    probes: dict[str, Probe | Failure] = {f"{n}.mp4": lasting(10.0) for n in range(4)}
    good = [Annotation(path=path, start=1.0, end=3.0, label="run") for path in probes]
    checked([*good, Annotation(path="0.mp4", start=50.0, end=60.0, label="jump")], probes)


def test_an_end_that_is_rounded_up_is_fine() -> None:
    checked([Annotation(path="a.mp4", start=0.0, end=1.0, label="run")], {"a.mp4": lasting(0.4)})


def test_files_that_cannot_be_read_and_whole_files_do_not_count() -> None:
    broken = Failure(reason="truncated", message="cut short")
    annotations = [Annotation(path="a.mp4", start=500.0, label="run"), Annotation(path="b.mp4", label="jump")]
    checked(annotations, {"a.mp4": broken, "b.mp4": lasting(1.0)})


rates = st.sampled_from([12.0, 24.0, 30000 / 1001, 25.0, 50.0, 60.0])
spans = st.lists(st.tuples(st.floats(4, 600), st.floats(0, 0.8), st.floats(0.1, 0.2), rates), min_size=1, max_size=6)


@given(files=spans, unit=st.sampled_from(["seconds", "milliseconds", "frames"]))
def test_any_times_in_seconds_pass_and_those_in_other_units_are_named(
    files: list[tuple[float, float, float, float]], unit: str
) -> None:
    probes: dict[str, Probe | Failure] = {}
    annotations, amiss = [], 0
    for n, (seconds, begin, length, fps) in enumerate(files):
        scale = {"seconds": 1.0, "milliseconds": 1000.0, "frames": fps}[unit]
        start, end = begin * seconds * scale, (begin + length) * seconds * scale
        if unit == "frames":
            start, end = float(int(start)), float(int(end) + 1)
        probes[f"{n}.mp4"] = Probe(width=64, height=48, fps=fps, frames=0, seconds=seconds, codec="h264")
        annotations.append(Annotation(path=f"{n}.mp4", start=start, end=end, label="run"))
        amiss += start >= seconds or end >= 2 * (seconds + 1)
    assume(amiss == 0 or 2 * amiss >= len(files))
    if not amiss:
        return checked(annotations, probes)
    with pytest.raises(UserError) as caught:
        checked(annotations, probes)
    assert ("as milliseconds all of them fit" if unit == "milliseconds" else "as frame numbers") in str(caught.value)
    assert unit != "seconds"
    return None
