"""NVRTC, where it is installed."""

from __future__ import annotations

__all__ = ["nvrtc"]


def nvrtc() -> str | None:
    """Return why kernels cannot be compiled here, None where they can."""
    try:
        from cuda.bindings import nvrtc as library

        library.nvrtcVersion()
    except Exception as error:  # noqa: BLE001  a missing extra, or a library that does not load
        return f"NVRTC is not here ({type(error).__name__}): the extra 'cuda' brings it"
    return None
