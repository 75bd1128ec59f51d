"""The cuts and the fingerprint of a segment, from thumbnails of its frames, in one cheap pass.

    content = Content()
    for frame in frames:
        content.feed(frame)        # I420, as `rushes.video.decode` yields
    content.cuts()                 # [83, 412]: frames that begin a new shot
    content.fingerprint()          # 128 bits; compare with `near_duplicates`

A thumbnail holds 16 x 20 means of luma and 8 x 10 of each chroma plane.

The thresholds come from the 120 UT-Interaction videos (11,331 frames at 25 fps, short side 128):

- Change between successive frames, as `cuts` measures it: within a video at most .13, and where above .1 at most 1.5
  times the largest change within 6 frames; at 1,000 cuts between two videos at least .22, and 2.7 times.
- Fingerprints: of 180 re-encodings of 30 videos (H.264 at crf 35, MPEG-4 at 300 kbit/s, half size, brighter, 15 and 24
  frames per second) at most 13 bits differ from the original's, 95 % differ in at most 9; of the 7,140 pairs of videos
  at least 28 (mean 63, standard deviation 7); of the two halves of one video (the same scene and people) at least 49.
  A start that is one frame later changes at most 12 bits in these videos of 4 seconds, three frames later up to 25.
  Small and fast motion before a still background (the synthetic videos) leaves less to compare: re-encoding changes 11
  bits by MPEG-4, 23 by H.264 at qp 32.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rushes.video.frames import Frames
from rushes.video.grid import Doubles, Floats, overlap

Prints = npt.NDArray[np.uint64]

NEAR = 16
"""Fingerprints of the same footage, with the same start and end, differ in at most so many of 128 bits."""

_ROWS, _COLUMNS = 16, 20  # of a luma thumbnail
_FLAT = 8.0  # grey levels, added to the contrast so that the noise of a flat thumbnail is not amplified
_CHROMA = 16.0  # levels of chroma that count as much as one standard deviation of luma
_CHANGE = 0.18
_CLEAR = 2.2  # times the largest change nearby
_AROUND = 6  # frames: so close are the steps of a film of 5 frames per second
_BACK = 12  # frames within which the earlier frame reappears after a flash

_TEMPORAL = 8  # frequencies: half waves in the segment's length
_SPATIAL = [(row, column) for row in range(4) for column in range(5) if 0 < row + column <= 5]  # 16, without the mean
_STILL = 0.03  # weight of the mean frame, so that a still segment has a fingerprint too
_TEXTURE = 2.0  # grey levels

_BLOCK = 1 << 20  # pairs compared at once
_PART = 64  # frames compared at once


class Content:
    """Thumbnails of the frames of one segment, their cuts and fingerprint."""

    def __init__(self) -> None:
        self._count = 0
        self._luma: Floats = np.empty((0, _ROWS, _COLUMNS), np.float32)
        self._chroma: Floats = np.empty((0, 2, _ROWS // 2, _COLUMNS // 2), np.float32)

    def feed(self, frame: Frames) -> None:
        """Takes the next frame: I420, uint8 `[H * 3/2, W]`, of the same shape as those before."""
        if self._count == len(self._luma):
            # Resized in place where possible: thousands of small arrays would fragment the heap.
            room = self._count + max(_PART, self._count // 8)
            for thumbnails in (self._luma, self._chroma):
                thumbnails.resize((room, *thumbnails.shape[1:]), refcheck=False)
        height, width = frame.shape[0] * 2 // 3, frame.shape[1]
        self._luma[self._count] = _shrunk(frame[:height], _ROWS, _COLUMNS)
        chroma = frame[height:].reshape(2, height // 2, width // 2)
        self._chroma[self._count] = _shrunk(chroma, _ROWS // 2, _COLUMNS // 2)
        self._count += 1

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a new shot, ascending, without 0.

        A hard cut changes the frame clearly more than anything else does within 6 frames of it, and the frame before
        it does not reappear within 12 (as it does after a flash). Brightness and contrast do not count. Missed: fades,
        two cuts within 6 frames of each other, and a shot of up to 12 frames inserted into another. Found by mistake:
        a knock that moves a still camera suddenly by a sixteenth of the frame or more.
        """
        if not self._count:
            return []
        change = self._change()
        candidates = np.flatnonzero(change > _CHANGE).tolist()
        return [k for k in candidates if _clear(change, k) and self._lasts(change, k)]

    def _change(self) -> Doubles:
        """How much each frame differs from the one before, `[n]`; in blocks, since a minute at once takes 15 MB."""
        change = np.zeros(self._count)
        for begin in range(1, len(change), _PART):
            features = self._features(begin - 1, begin + _PART)
            change[begin : begin + _PART] = np.abs(np.diff(features, axis=0)).mean(1)
        return change

    def _lasts(self, change: Doubles, k: int) -> bool:
        """Whether the frame before `k` does not reappear soon."""
        before, after = self._features(max(0, k - _BACK), k), self._features(k, k + _BACK)
        return bool(np.abs(before[:, None] - after).mean(-1).min() > change[k] / 2)

    def fingerprint(self) -> tuple[int, int]:
        """128 bits that re-encoding, scaling, brightening and another frame rate hardly change; two uint64.

        Signs of the luma's low frequencies in time and space, so that another part of the same scene has other bits; a
        still segment has the signs of its mean frame. (0, 0) stands for a segment without texture (black, fog), which
        must not be compared.
        """
        if not self._count:
            return (0, 0)
        luma = self._luma[: self._count]
        if np.mean([thumbnail.std() for thumbnail in luma]) < _TEXTURE:
            return (0, 0)
        waves = np.tensordot(_cosines(len(luma), _TEMPORAL + 1), luma, axes=1)
        spectrum = _cosines(_ROWS, _ROWS) @ waves @ _cosines(_COLUMNS, _COLUMNS).T
        rows, columns = zip(*_SPATIAL, strict=True)
        still = spectrum[0, : len(spectrum) - 1, 1 : len(_SPATIAL) + 1]
        bits = spectrum[1:, rows, columns] + _STILL * still > 0
        first, second = np.packbits(bits).view(">u8").tolist()
        return first, second

    def _features(self, start: int, stop: int) -> Floats:
        """Luma without its mean and contrast, and chroma: `[n, 480]` in standard deviations of luma."""
        stop = min(stop, self._count)
        luma = self._luma[start:stop].reshape(stop - start, -1)
        luma = (luma - luma.mean(1, keepdims=True)) / (luma.std(1, keepdims=True) + _FLAT)
        chroma = self._chroma[start:stop].reshape(stop - start, -1) / _CHROMA
        return np.concatenate([luma, chroma], axis=1)


def near_duplicates(first: Prints, second: Prints) -> list[tuple[int, int]]:
    """Pairs (i, j), in order, for which `first[i]` and `second[j]` are fingerprints of the same footage.

    All pairs are compared, 3 billion in some ten seconds; this takes less than 50 MB beside the arguments. (0, 0) is
    near nothing.

    Args:
        first: uint64 `[n, 2]`, of `Content.fingerprint`.
        second: uint64 `[m, 2]`. If it is `first`, each is near itself, and each pair is found in both orders.
    """
    found: list[tuple[int, int]] = []
    kept = np.flatnonzero(second.any(1))
    step = max(1, _BLOCK // max(1, len(kept)))
    high = np.ascontiguousarray(second[kept, 0])
    for start in range(0, len(first), step):
        block = first[start : start + step]
        # Nearly every pair is too far apart in its first half.
        rows, columns = np.nonzero(np.bitwise_count(block[:, :1] ^ high) <= NEAR)
        distance = np.bitwise_count(block[rows] ^ second[kept[columns]]).sum(1)
        near = (distance <= NEAR) & block[rows].any(1)
        found += zip((rows[near] + start).tolist(), kept[columns[near]].tolist(), strict=True)
    return found


def _shrunk(planes: Frames, rows: int, columns: int) -> Floats:
    """Means of `rows` by `columns` equal parts of each plane `[..., H, W]`."""
    height, width = planes.shape[-2:]
    small: Floats = _averaging(height, rows) @ planes.astype(np.float32) @ _averaging(width, columns).T
    return small


@lru_cache(64)
def _averaging(length: int, cells: int) -> Floats:
    pixels = np.arange(length, dtype=np.float32)
    means: Floats = overlap(pixels, pixels + 1, cells=cells, length=length) * np.float32(cells / length)
    return means


def _clear(change: Doubles, k: int) -> bool:
    around = np.concatenate([change[max(0, k - _AROUND) : k], change[k + 1 : k + 1 + _AROUND]])
    return bool(change[k] > _CLEAR * around.max())


@lru_cache(64)
def _cosines(length: int, count: int) -> Floats:
    """The first frequencies of the cosine transform, `[count, length]`, each scaled to an effective value of 1."""
    at = (np.arange(length) + 0.5) / length
    waves = np.cos(np.pi * np.arange(count)[:, None] * at) * np.sqrt(2) / length
    waves[0] /= np.sqrt(2)
    scaled: Floats = waves.astype(np.float32)
    return scaled
