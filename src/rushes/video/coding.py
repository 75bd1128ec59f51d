"""How frames are encoded before a network sees them; standard library only, as the contract that holds it."""

from dataclasses import dataclass

from rushes.errors import UserError

CODECS = ("h264",)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The coding of footage, which a network learns with what is in the frames."""

    codec: str
    """One of `CODECS`."""
    short_side: int
    """Shorter side of the encoded frames, pixels."""
    qp: int
    """Constant quantiser, 0 (lossless) to 51."""
    gop: int
    """Frames from one key frame to the next."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise UserError(
                f"encoding.codec: {self.codec!r} is not known here, only {', '.join(CODECS)}: use the version of "
                "rushes that exported the model"
            )
        if self.short_side < 2 or self.short_side % 2:
            raise UserError(f"encoding.short_side: {self.short_side}: even, at least 2 pixels")
        if not 0 <= self.qp <= 51:
            raise UserError(f"encoding.qp: {self.qp}: 0 (lossless) to 51")
        if self.gop < 1:
            raise UserError(f"encoding.gop: {self.gop}: at least 1 frame")
