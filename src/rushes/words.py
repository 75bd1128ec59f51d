"""Numbers, sizes, times and names as people read them."""

from collections.abc import Sequence

Count = tuple[str, int]
"""A name, and how many there are."""


def printable(text: str) -> str:
    r"""Text of unknown origin on one line: control and direction characters, and bytes that are no text, as \x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """`1 file`, `1,200 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def enumerated(counts: Sequence[Count], limit: int) -> str:
    """`walk (20), run (12) and 3 more`: the first `limit` of them."""
    more = f" and {len(counts) - limit:,} more" if len(counts) > limit else ""
    return ", ".join(f"{name} ({count:,})" for name, count in counts[:limit]) + more


def file_size(size: int) -> str:
    """Bytes as `12.3 MB` or `1,234.5 GB` (10^6 and 10^9 bytes)."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """`12.5 s`, `7.66 min`, `1,234 h`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:,.4g} h"


def clock(seconds: float) -> str:
    """A position in a video: minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
