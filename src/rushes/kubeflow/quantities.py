"""Kubernetes' quantities as numbers: `amount("500m")` is 0.5, `amount("8Gi")` is 8589934592.0."""

import re

_UNITS = {"": 1.0, "m": 1e-3} | {
    f"{letter}{binary}": float((1024 if binary else 1000) ** power)
    for power, letter in enumerate("KMGT", start=1)
    for binary in ("", "i")
}


def amount(quantity: str) -> float:
    """Cores, or bytes.

    Raises:
        ValueError: it is no quantity.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)", quantity)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{quantity!r} is no quantity, such as 500m or 16Gi")
    return float(match[1]) * _UNITS[match[2]]
