"""Units of length and time, as programs and file formats write them."""

from __future__ import annotations

__all__ = ["in_micrometres", "in_seconds"]

# Inches are left out: where a picture has any, they are those of a printer.
_MICROMETRES = {
    "meter": 1e6, "m": 1e6, "decimeter": 1e5, "dm": 1e5, "centimeter": 1e4, "cm": 1e4, "millimeter": 1e3, "mm": 1e3,
    "micrometer": 1.0, "micron": 1.0, "um": 1.0, "nanometer": 1e-3, "nm": 1e-3, "angstrom": 1e-4, "å": 1e-4,
    "picometer": 1e-6, "pm": 1e-6,
}  # fmt: skip
_SECONDS = {
    "day": 86400.0, "d": 86400.0, "hour": 3600.0, "hr": 3600.0, "h": 3600.0, "minute": 60.0, "min": 60.0,
    "second": 1.0, "sec": 1.0, "s": 1.0, "millisecond": 1e-3, "millisec": 1e-3, "msec": 1e-3, "ms": 1e-3,
    "microsecond": 1e-6, "microsec": 1e-6, "usec": 1e-6, "us": 1e-6, "nanosecond": 1e-9, "nsec": 1e-9, "ns": 1e-9,
}  # fmt: skip


def in_micrometres(value: object, unit: object) -> float | None:
    r"""Return a length in micrometres, or None where it is no number or the unit is no length (``pixel``).

    Examples
    --------
    >>> in_micrometres("650", "nm"), in_micrometres(0.65, "\\u00B5m"), in_micrometres(1, "pixel")
    (0.65, 0.65, None)
    """
    return _converted(value, _MICROMETRES.get(_plain(unit)))


def in_seconds(value: object, unit: object) -> float | None:
    """Return a time in seconds, or None where it is no number or the unit is no time (``frame``).

    Examples
    --------
    >>> in_seconds("2", "min"), in_seconds(1.5, "Hours"), in_seconds(1, "frame")
    (120.0, 5400.0, None)
    """
    return _converted(value, _SECONDS.get(_plain(unit)))


def _plain(unit: object) -> str:
    """Return the name of a unit in small letters, in the singular, with a micro sign written as u."""
    name = str(unit).strip().replace("\\u00B5", "u").replace("\\u00b5", "u").replace("\\u03BC", "u")
    name = name.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    name = name.replace("\N{ANGSTROM SIGN}", "å").lower().replace("metre", "meter")
    return name[:-1] if len(name) > 2 and name.endswith("s") else name


def _converted(value: object, factor: float | None) -> float | None:
    if factor is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number * factor
