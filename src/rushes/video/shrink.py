"""Decoded frames of footage at the size that a network reads: the same in training, evaluation and serving."""

from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from rushes.video.frames import Frames


class Shrinker:
    """Scales frames to one size; frames that have it already stay as they are.

    Args:
        height: pixels.
        width: likewise.
    """

    def __init__(self, *, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Frames:
        """uint8 `[H * 3/2, W]`."""
        if (frame.height, frame.width) != (self.height, self.width):
            frame = self.reformatter.reformat(
                frame, width=self.width, height=self.height, interpolation=Interpolation.BILINEAR, threads=1
            )
        planes: Frames = frame.to_ndarray()  # type: ignore[assignment]
        return planes
