"""Original files through the serving path: does a bundle answer as evaluation did?

Evaluation reads footage, an endpoint gets files. Here a sample of the test segments' own files takes the way of a
request: `InProcessModel.predict`, which decodes, encodes and classifies as Triton's backend does. A segment that is
part of a file goes the same way with its first and last second.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rushes.evaluation.served import ServedAnswer
from rushes.footage.keys import is_key_of
from rushes.footage.provenance import OriginalFiles
from rushes.footage.reader import Footage
from rushes.footage.sources import located
from rushes.progress import Progress
from rushes.serving.bundle import InProcessModel
from rushes.serving.request import LIMITS, read_video, segment_clips
from rushes.video.source import VideoError

Rows = npt.NDArray[np.int64]


def drawn(total: int, *, count: int, seed: int) -> Rows:
    """At most `count` of the numbers below `total`, drawn at random, ascending."""
    return np.sort(np.random.default_rng([seed, 7]).permutation(total)[:count])


def served_answers(
    model: InProcessModel, footage: Footage, rows: Rows, *, files: OriginalFiles, progress: Progress
) -> list[ServedAnswer]:
    """Sends the original file of each row through the serving path."""
    columns = [footage.texts(name)[rows] for name in ("source", "source_sha256", "key")]
    bar = progress.bar("original files through the serving path", total=len(rows), unit="videos")
    answers = []
    for row, source, sha256, key in zip(rows, *columns, strict=True):
        start = float(footage.segments.start[row])
        whole = start == 0 and is_key_of(key, sha256, 0.0, files.segment_seconds)
        try:
            if whole:
                answers.append(_whole(model, files.root, source, sha256=sha256))
            else:
                end = _limit(footage, row, key=key, sha256=sha256, files=files)
                clips = segment_clips(located(files.root, source), model.bundle.contract, start=start, end=end)
                answers.append(ServedAnswer(label=model.classify(clips).top(1)[0][0]))
        except VideoError as error:
            gone = error.reason == "unreadable"
            answers.append(ServedAnswer(absent=error.reason) if gone else ServedAnswer(refused=error.reason))
        bar.advance()
    return answers


def _whole(model: InProcessModel, root: str, source: str, *, sha256: str) -> ServedAnswer:
    video = _read(root, source)
    if hashlib.sha256(video).hexdigest() != sha256:
        return ServedAnswer(absent="changed")
    return ServedAnswer(label=model.predict(video).top(1)[0][0])


def _limit(footage: Footage, row: int, *, key: str, sha256: str, files: OriginalFiles) -> float:
    """The second at which a segment's decoding stopped: its end, or later where the file goes on for longer."""
    start, end = float(footage.segments.start[row]), float(footage.segments.end[row])
    longest = start + files.segment_seconds
    return longest if is_key_of(key, sha256, start, longest) else end


def _read(root: str, source: str) -> bytes:
    """The bytes of a file, as for a request.

    Raises:
        VideoError: it cannot be read, or is too large.
    """
    url = located(root, source)
    if isinstance(url, Path):
        return read_video(url)
    import fsspec

    try:
        with fsspec.open(str(url), "rb") as file:
            video: bytes = file.read(LIMITS.max_bytes + 1)
    except Exception as error:  # every file system has its own errors
        raise VideoError("unreadable", f"{url!s}: cannot be read ({error})") from error
    if len(video) > LIMITS.max_bytes:
        raise VideoError("too_large", f"{url!s}: at most {LIMITS.max_bytes} bytes are allowed in a request")
    return video
