"""Motion by the encoder's vectors against Farneback's optical flow: how well they agree, and what each costs.

    python -m benchmarks.motion --videos ../shared/data/ut_interaction --out benchmarks/motion.md

Every video is sampled and encoded as the `sample` step does (short side 128, 25 frames per second, qp 26). Agreement is
Spearman's rank correlation of the means over 16 frames: over all windows of all videos that do not overlap, and, video
by video, over all windows one frame apart (those overlap: a video has few). Cost is CPU time in one thread, measured
in turns: one method, then the other, on each video; the frames that Farneback's flow needs are decoded beforehand.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import spearmanr

from benchmarks._flow import farneback_motion
from benchmarks._runs import processor
from rushes.video.decode import decode_i420
from rushes.video.encode import encode_h264
from rushes.video.grid import Doubles
from rushes.video.motion import Motion, encoder_motion
from rushes.video.windows import WINDOW, window_means

SHORT_SIDE, FPS, QP, GOP = 128, 25.0, 26, 12


def timed(measure: Callable[[], Motion]) -> tuple[Doubles, float]:
    """Means of all windows, and frames per second."""
    began = time.process_time()
    motion = measure()
    return window_means(motion.magnitude), len(motion.magnitude) / (time.process_time() - began)


def compare(video: Path) -> tuple[Doubles, Doubles, float, float, int]:
    """Window means by vectors and by flow, frames per second of each, and frames."""
    frames = list(decode_i420(video, short_side=SHORT_SIDE, fps=FPS))
    mp4 = encode_h264(frames, fps=FPS, qp=QP, gop=GOP)
    vectors, vectors_rate = timed(lambda: encoder_motion(mp4))
    flow, flow_rate = timed(lambda: farneback_motion(frames))
    return vectors, flow, vectors_rate, flow_rate, len(frames)


def rank_correlation(first: Doubles, second: Doubles) -> float:
    """Spearman's."""
    return float(spearmanr(first, second).statistic)


def main() -> None:
    """Compares on every video and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th video")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    videos = sorted(arguments.videos.rglob("*.avi"))[:: arguments.every]
    compare(videos[0])  # the first call loads libraries
    results = [compare(video) for video in videos]
    arguments.out.write_text(table(results, arguments.every))


def table(results: list[tuple[Doubles, Doubles, float, float, int]], every: int) -> str:
    """The table in Markdown."""
    vectors, flow, vectors_rates, flow_rates, frames = zip(*results, strict=True)
    apart = [np.concatenate([means[::WINDOW] for means in side]) for side in (vectors, flow)]
    each = np.array([rank_correlation(a, b) for a, b in zip(vectors, flow, strict=True)])
    rates = np.median(vectors_rates), np.median(flow_rates)
    ratio = np.median(np.divide(vectors_rates, flow_rates))
    pooled = rank_correlation(*apart)
    taken = f" --every {every}" if every > 1 else ""
    packages = ("av", "numpy", "opencv-python-headless", "scipy")
    lines = [
        f"# Motion off the encoder's vectors against Farneback's flow, {len(results)} UT-Interaction videos",
        "",
        "| | measured | target |",
        "|---|---|---|",
        f"| Spearman, pooled ({len(apart[0])} windows of {WINDOW} frames) | {pooled:.3f} | at least .95 |",
        f"| Spearman within a video, median | {np.median(each):.3f} | |",
        f"| Spearman within a video, 10th percentile and lowest | {np.quantile(each, 0.1):.3f}, {each.min():.3f} | |",
        f"| vectors, frames/s | {rates[0]:,.0f} | |",
        f"| Farneback, frames/s | {rates[1]:,.0f} | |",
        f"| cost of vectors | 1/{ratio:.0f} of Farneback's | at most 1/20 |",
        "",
        f"{sum(frames):,} frames, short side {SHORT_SIDE}, {FPS:g} frames per second, H.264 at qp {QP}, a key frame "
        f"every {GOP}. Rates are medians over videos of CPU time in one thread, the two methods in turns; that of the "
        "vectors includes decoding the file, Farneback's does not.",
        "",
        f"`python -m benchmarks.motion --videos ../shared/data/ut_interaction{taken} --out FILE`, "
        f"{os.cpu_count()} cores of {processor()}, python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
