"""Footage made cheaply, of as many shards as are wanted, straight into a store."""

import functools
import io
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.index import Geometry, IndexRows, write_index, write_shards
from rushes.footage.probes import PROBES
from rushes.footage.rows import CODEC, MOTION, EncodingStats, Segment, Shard
from rushes.footage.shards import Sidecar, add_member, put_sidecar
from rushes.store import Manifest, Store
from rushes.video.encode import encode_h264

HEIGHT, WIDTH, FRAMES = 48, 64, 30


@functools.cache
def encoded(seed: int, *, qp: int = 20, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """A segment of noise: the lower `qp`, the more bytes."""
    luma = np.random.default_rng(seed).integers(16, 236, (FRAMES, height * 3 // 2, width), dtype=np.uint8)
    luma[:, height:] = 128
    return encode_h264(luma, fps=25.0, qp=qp, gop=12)


def put_footage(
    store: Store,
    *,
    shards: int,
    segments: int,
    distinct: int = 8,
    qp: int = 20,
    height: int = HEIGHT,
    width: int = WIDTH,
    held_out: int = 0,
) -> Manifest:
    """Stores and publishes footage; each segment is one of `distinct` ones, each shard another sequence of them.

    Args:
        store: where to.
        shards: how many.
        segments: in each.
        distinct: different segments.
        qp: their quantiser.
        height: of a frame.
        width: of a frame.
        held_out: shards at the end that are of the split "val".
    """
    films = [encoded(seed, qp=qp, height=height, width=width) for seed in range(distinct)]
    rng, rows, written = np.random.default_rng(7), IndexRows(), []
    for number in range(shards):
        split = "val" if number >= shards - held_out else "unlabelled"
        shard, places = _put_shard(store, number, [films[n] for n in rng.integers(distinct, size=segments)])
        written.append(shard)
        for place, (offset, length) in enumerate(places):
            key = f"{number * segments + place:016x}"
            rows.add(
                Segment(
                    key=key,
                    source=f"{key}.mp4",
                    source_sha256=key * 4,
                    start=0.0,
                    end=FRAMES / 25.0,
                    label="",
                    group=key,
                    split=split,
                ),
                EncodingStats(
                    frames=FRAMES,
                    fps=25.0,
                    width=width,
                    height=height,
                    codec=CODEC,
                    shard=number,
                    offset=offset,
                    length=length,
                    frame_offset=place * FRAMES,
                ),
            )
    with TemporaryDirectory() as folder:
        out = Path(folder)
        write_index(out / INDEX, rows.table(), Geometry(short_side=height, fps=25.0, qp=qp, gop=12))
        write_shards(out / SHARDS, written)
        (out / PROBES).write_bytes(b"")
        files = {name: store.put(out / name) for name in (INDEX, SHARDS, PROBES)}
    manifest = Manifest(
        kind="footage", step="sample", digest="feed", inputs={}, config={}, code="", files=files, summary={}
    )
    store.publish(manifest)
    return manifest


def _put_shard(store: Store, number: int, films: list[bytes]) -> tuple[Shard, list[tuple[int, int]]]:
    """The shard, and (offset, length) of each segment in it."""
    buffer, sidecar, places = io.BytesIO(), Sidecar(), []
    rng = np.random.default_rng(number)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for place, mp4 in enumerate(films):
            places.append((tar.offset + tarfile.BLOCKSIZE, len(mp4)))
            add_member(tar, f"{number:08x}{place:08x}.mp4", mp4)
            motion = np.zeros(FRAMES, MOTION)
            motion["magnitude"], motion["grid"] = rng.random(FRAMES), rng.integers(200, size=(FRAMES, 4, 5))
            sidecar.add(motion)
    tar_file = store.put_bytes(buffer.getvalue())
    return put_sidecar(store, number, tar_file, sidecar, sources=[]), places


def bytes_of(store: Store, manifest: Manifest) -> int:
    """Bytes of all shards and sidecars."""
    from rushes.footage.index import read_shards

    return sum(shard.size + shard.motion_size for shard in read_shards(store.path(manifest.files[SHARDS])))
