"""What the index says about a segment, as features: a probe on them shows what can be known without seeing a frame."""

import numpy as np
import numpy.typing as npt

from rushes.footage.reader import Footage


def metadata(footage: Footage) -> npt.NDArray[np.float32]:
    """Duration, frames, frame rate, size, bytes, quantiles of motion and codec of each segment: [n, d]."""
    segments, codecs = footage.segments, footage.texts("codec")
    sizes = [segments.frames, segments.frames / segments.fps, segments.fps, segments.width, segments.height]
    columns = [*sizes, segments.length, *(1 + footage.motion_quantiles().T)]
    known = [np.log(np.maximum(np.asarray(column, dtype=np.float64), 1e-6)) for column in columns]
    named = [(codecs == codec).astype(np.float64) for codec in sorted(set(codecs))]
    return np.stack([*known, *named], axis=1).astype(np.float32)
