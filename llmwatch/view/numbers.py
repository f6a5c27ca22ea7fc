"""Numbers in few characters, for a terminal or a table: ``210 µs``, ``0.00034``, ``46.2k``."""

from __future__ import annotations

from math import floor, log10


def seconds(value: float) -> str:
    """A duration in at most six characters: ``210 µs``, ``21 ms``, ``1.12 s``, ``123 s``."""
    if value < 0.0009995:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms" if value >= 0.00995 else f"{value * 1e3:.1f} ms"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} s"


def dollars(value: float) -> str:
    """An amount in two significant digits, never in exponents: ``0.00034``."""
    if 0 < value < 1e-5:
        return "<0.00001"
    digits = 1 - floor(log10(value)) if 0 < value < 0.1 else 2
    return f"{value:.{min(digits, 6)}f}"


def rate(value: float) -> str:
    """Something per second, in at most five characters: ``4.6``, ``46``, ``46.2k``."""
    if value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 9999.5 else f"{value / 1e3:.3g}k"


def per(value: float) -> str:
    """How often something happens, given a second: ``4.6/s``, ``12/min``, ``3/h``."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if value * seconds >= 0.995:
            return f"{rate(value * seconds)}/{unit}"
    return f"{value * 3600:.3g}/h"


def size(value: float) -> str:
    """Bytes, or anything else, in thousands, millions, …: ``135 M``."""
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"


def age(seconds: float) -> str:
    """How long ago, in its largest unit: ``3 s``, ``12 min``, ``2 h``, ``5 d``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0) // 1:.0f} s"
