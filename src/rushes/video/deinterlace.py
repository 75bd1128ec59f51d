"""Interlaced frames to progressive ones, by FFmpeg's bwdif."""

import itertools
from collections.abc import Iterator

from av.filter import Graph

from rushes.video.clock import Timed


def deinterlaced(timed: Iterator[Timed]) -> Iterator[Timed]:
    """Frames flagged interlaced come out progressive, at their times; before the first of them nothing is filtered.

    A frame depends only on its two neighbours, so that a span equals its part of the whole. That is why the filter
    starts one frame early, and is fed progressive frames too, whose output is dropped.
    """
    before: list[Timed] = []
    for t, frame in timed:
        if frame.interlaced_frame:
            runs = itertools.groupby(itertools.chain(before, [(t, frame)], timed), key=_layout)
            filtered = itertools.chain.from_iterable(_bwdif(layout, run) for layout, run in runs)
            yield from itertools.islice(filtered, len(before), None)
            return
        yield t, frame
        before = [(t, frame)]


def _layout(timed: Timed) -> dict[str, str]:
    """The parameters of FFmpeg's buffer source for a frame; a filter graph takes frames of one layout."""
    _, frame = timed
    return {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "colorspace": str(frame.colorspace),
        "time_base": "1/1000",  # times are kept beside the frames
    }


def _bwdif(layout: dict[str, str], run: Iterator[Timed]) -> Iterator[Timed]:
    """Filters frames of one layout: one out for each one in, as soon as the next one is in."""
    graph = Graph()
    graph.threads = 1
    source, sink = graph.add("buffer", **layout), graph.add("buffersink")
    graph.link_nodes(source, graph.add("bwdif", mode="send_frame", parity="auto", deint="all"), sink).configure()
    t, frame = next(run)
    graph.vpush(frame)
    for following in itertools.chain(run, [None]):
        graph.vpush(following[1] if following else None)
        filtered = graph.vpull()
        yield t, filtered if frame.interlaced_frame else frame
        if following:
            t, frame = following
