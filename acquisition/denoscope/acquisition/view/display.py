"""A session in a napari viewer: pictures, traces, bar, and the timer that looks at the board."""

from __future__ import annotations
