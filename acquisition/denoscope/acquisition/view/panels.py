"""Two image layers of a napari viewer that show the newest raw and denoised frame, one camera for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .board import Board, Picture, Slot
from .contrast import AutoContrast

__all__ = ["Panels"]

_CONTRAST_EVERY_S = 0.25
_NAMES = {Slot.RAW: "raw", Slot.DENOISED: "denoised"}


class Panels:
    """Side by side in napari's grid, whose boxes share one camera: pan and zoom move both.

    Parameters
    ----------
    viewer
        A ``napari.Viewer``, or its model alone.
    on_manual
        Called when the user sets contrast limits by hand, so that `automatic` went off.
    """

    def __init__(self, viewer: Any, on_manual: Callable[[], None]) -> None:
        self._viewer = viewer
        self._on_manual = on_manual
        self._layers: dict[Slot, Any] = {}
        self._orders = dict.fromkeys(_NAMES, 0)
        self._contrast: dict[Slot, AutoContrast] = {}
        self._contrast_s = 0.0
        self._setting = False
        self.automatic = True

    def open(self, shape: tuple[int, int]) -> None:
        """Begin anew with frames of a shape."""
        self._orders = dict.fromkeys(_NAMES, 0)
        self.forget_contrast()
        for slot in _NAMES:
            self._layer(slot).data = np.zeros(shape, np.uint16)
            self._layer(slot).scale = (1, 1)
        grid = self._viewer.canvas.grid
        grid.shape, grid.stride, grid.spacing, grid.enabled = (1, 2), 1, 0.02, True
        self._viewer.reset_view(margin=0.02)

    def forget_contrast(self) -> None:
        """Take the next frame's contrast at once, because it shows something else."""
        self._contrast = {slot: AutoContrast() for slot in _NAMES}

    def refresh(self, board: Board, now_s: float) -> bool:
        """Show what is newest on the board; return whether anything is new."""
        fresh = False
        for slot in _NAMES:
            picture = board.get(slot, self._orders[slot])
            if picture is None:
                continue
            fresh = True
            self._orders[slot] = picture.order
            self._show(self._layer(slot), picture)
        if self.automatic and fresh and now_s - self._contrast_s >= _CONTRAST_EVERY_S:
            self._contrast_s = now_s
            self._set_contrast(now_s)
        return fresh

    def _show(self, layer: Any, picture: Picture) -> None:
        old, new = layer.data, picture.pixels
        if (old.shape, old.dtype) == (new.shape, new.dtype):
            # Half the cost of setting the data, of which only the pixels have changed.
            np.copyto(old, new)
            layer.refresh(thumbnail=False, highlight=False, extent=False)
            return
        self._setting = True  # napari moves the limits where they do not suit another dtype
        try:
            layer.data = new
        finally:
            self._setting = False
        if old.shape != new.shape:
            layer.scale = (picture.step, picture.step)
            self._viewer.reset_view(margin=0.02)

    def _set_contrast(self, now_s: float) -> None:
        self._setting = True
        try:
            for slot, layer in self._layers.items():
                if self._orders[slot]:
                    layer.contrast_limits = self._contrast[slot].update(layer.data, now_s)
        finally:
            self._setting = False

    def _layer(self, slot: Slot) -> Any:
        """Return the layer of a slot; the user may have deleted it."""
        layer = self._layers.get(slot)
        if layer is None or layer not in self._viewer.layers:
            layer = self._viewer.add_image(np.zeros((16, 16), np.uint16), name=_NAMES[slot], rgb=False)
            layer.events.contrast_limits.connect(self._contrast_changed)
            layer.name_overlay.visible = True
            self._layers[slot] = layer
        return layer

    def _contrast_changed(self, _event: Any = None) -> None:
        if not self._setting and self.automatic and any(self._orders.values()):
            self.automatic = False
            self._on_manual()
