"""Two image layers of a napari viewer that show the newest raw and denoised frame, one camera for both."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.view.board.board import Board, Picture, Slot
from denoscope.acquisition.view.traces.outlines import Outlines

from .contrast import AutoContrast

__all__ = ["Compare", "Panels"]

_CONTRAST_EVERY_S = 0.25
_LOOKS = 3
_WIDE = 2.2  # times the height: the pictures are larger one above the other
_NAMES = {Slot.RAW: "raw", Slot.DENOISED: "denoised"}


class Compare(Enum):
    """Ways to compare the raw with the denoised picture."""

    BESIDE = "side by side"
    BLINK = "blink"
    SWIPE = "swipe"


class Panels:
    """Side by side in napari's grid, whose boxes share one camera: pan and zoom move both.

    Parameters
    ----------
    viewer
        A ``napari.Viewer``, or its model alone.
    on_manual
        Called when the user sets contrast limits by hand, so that `automatic` went off.
    on_pick
        Called with the region that was clicked in a picture.
    """

    def __init__(
        self,
        viewer: Any,
        on_manual: Callable[[], None],
        on_pick: Callable[[str], None] = lambda _region: None,
    ) -> None:
        self._viewer = viewer
        self.outlines = Outlines(viewer, on_pick)
        self._on_manual = on_manual
        self._layers: dict[Slot, Any] = {}
        self._orders = dict.fromkeys(_NAMES, 0)
        self._contrast: dict[Slot, AutoContrast] = {}
        self._contrast_s = 0.0
        self._setting = False
        self.pixel_um = 1.0
        """Edge of a pixel in the viewer's units."""
        self._units = ("pixel", "pixel")
        self.numbers: dict[Slot, int | None] = dict.fromkeys(_NAMES)
        """Numbers of the frames that are shown, None before the first."""
        self.automatic = True
        self.linked = True
        self._compare = Compare.BESIDE
        self._swipe = 0.5
        self._pixels: dict[Slot, npt.NDArray[Any]] = {}

    @property
    def number(self) -> str:
        """Number of the frame that is shown, in words; empty before the first."""
        raw, denoised = self.numbers[Slot.RAW], self.numbers[Slot.DENOISED]
        if raw == denoised or raw is None:
            return "" if denoised is None else f"frame {denoised}"
        return f"raw frame {raw}" if denoised is None else f"raw frame {raw}, denoised {denoised}"

    def is_later(self, number: int) -> bool:
        """Return whether a denoised frame comes after the one that is shown."""
        shown = self.numbers[Slot.DENOISED]
        return shown is None or number > shown

    def open(self, shape: tuple[int, int], pixel_um: float | None = None) -> None:
        """Begin anew with frames of a shape, with a scale bar where the size of a pixel is known."""
        self._orders = dict.fromkeys(_NAMES, 0)
        self.numbers = dict.fromkeys(_NAMES)
        self.pixel_um = pixel_um or 1.0
        self.outlines.close()
        self.forget_contrast()
        self._units = ("pixel", "pixel") if pixel_um is None else ("um", "um")
        for slot in _NAMES:
            self._pixels[slot] = np.zeros(shape, np.uint16)
            self._layer(slot).data = np.zeros(shape, np.uint16)
            self._layer(slot).scale = (self.pixel_um, self.pixel_um)
            self._layer(slot).units = self._units
        self._viewer.canvas.overlays.scale_bar.visible = pixel_um is not None
        self._lay_out(shape)
        self.compare(self._compare)

    def _lay_out(self, shape: tuple[int, int]) -> None:
        """Put wide pictures one above the other, and all others next to each other."""
        height, width = shape
        wide = width > _WIDE * height
        self._viewer.canvas.grid.shape, self._viewer.canvas.grid.spacing = (2, 1) if wide else (1, 2), 0.02

    def outline(self, labels: npt.NDArray[np.integer[Any]], names: tuple[str, ...]) -> None:
        """Draw regions over both pictures: a label image, and the names of 1, 2 and so on."""
        pictures = [self._layer(slot) for slot in _NAMES]
        self.outlines.open(labels, names, pictures, self.pixel_um)
        self.compare(self._compare)

    def _arrange(self) -> None:
        """Put the layers into the order of the grid's boxes, each picture with what lies over it."""
        boxes = [[self._layer(slot), *self.outlines.of(place)] for place, slot in enumerate(_NAMES)]
        # A box holds so many layers; where the user has deleted one of a picture's, its box has no other layer.
        if len({len(box) for box in boxes}) > 1:
            self.outlines.close()
            boxes = [box[:1] for box in boxes]
        layers = self._viewer.layers
        for place, layer in enumerate(each for box in boxes for each in box):
            if layers.index(layer) != place:
                layers.move(layers.index(layer), place)
        self._viewer.canvas.grid.stride = len(boxes[0])

    def forget_contrast(self) -> None:
        """Take the next frame's contrast at once, because it shows something else."""
        self._contrast = {slot: AutoContrast() for slot in _NAMES}

    def look_again(self) -> None:
        """Take what is newest on the board as new, because something else was shown."""
        self._orders = dict.fromkeys(_NAMES, 0)

    def refresh(self, board: Board, now_s: float) -> bool:
        """Show what is newest on the board; return whether anything is new."""
        fresh = False
        for slot, picture in self._newest(board).items():
            fresh = True
            self._orders[slot] = picture.order
            self.numbers[slot] = picture.number
            self._show(slot, picture)
        if fresh:
            self._join()
        if self.automatic and fresh and now_s - self._contrast_s >= _CONTRAST_EVERY_S:
            self._contrast_s = now_s
            self._set_contrast(now_s)
        return fresh

    def show_past(self, raw: Picture, denoised: Picture | None, now_s: float) -> None:
        """Show a frame from the disk; a black picture stands for one that was not denoised."""
        self.numbers = {Slot.RAW: raw.number, Slot.DENOISED: None if denoised is None else denoised.number}
        self._show(Slot.RAW, raw)
        black = Picture(np.zeros(raw.pixels.shape, raw.pixels.dtype), raw.number, raw.step, 0)
        self._show(Slot.DENOISED, denoised or black)
        self._join()
        if self.automatic and denoised is not None:
            self._set_contrast(now_s)

    def _newest(self, board: Board) -> dict[Slot, Picture]:
        """Return what is new; where a pair was put between the two looks, that pair."""
        found: dict[Slot, Picture] = {}
        for _ in range(_LOOKS):
            for slot in _NAMES:
                seen = found[slot].order if slot in found else self._orders[slot]
                picture = board.get(slot, seen)
                if picture is not None:
                    found[slot] = picture
            if len({picture.number for picture in found.values()}) < 2:
                break
        return found

    def _show(self, slot: Slot, picture: Picture) -> None:
        layer = self._layer(slot)
        self._pixels[slot] = picture.pixels
        old, new = layer.data, picture.pixels
        if (old.shape, old.dtype) == (new.shape, new.dtype):
            # Half the cost of setting the data, of which only the pixels have changed.
            np.copyto(old, new)
            layer.refresh(thumbnail=False, highlight=False, extent=False)
            return
        self._setting = True  # napari moves the limits where they do not suit another dtype
        try:
            layer.data = new.copy()
        finally:
            self._setting = False
        if old.shape != new.shape:
            layer.scale = (picture.step * self.pixel_um, picture.step * self.pixel_um)
            self._lay_out((new.shape[0], new.shape[1]))
            self._viewer.reset_view(margin=0.02)

    def _set_contrast(self, now_s: float) -> None:
        self._setting = True
        try:
            found = {
                slot: self._contrast[slot].update(self._pixels[slot], now_s)
                for slot in self._layers
                if self._orders[slot]
            }
            # What is noise would set the limits of a linked raw picture, so the denoised one does.
            for slot, limits in found.items():
                both = found.get(Slot.DENOISED, limits) if self.linked else limits
                self._layers[slot].contrast_limits = both
        finally:
            self._setting = False

    def _layer(self, slot: Slot) -> Any:
        """Return the layer of a slot; the user may have deleted it."""
        layer = self._layers.get(slot)
        if layer is None or layer not in self._viewer.layers:
            # With the units of the other picture: napari warns where it draws two layers of different ones.
            layer = self._viewer.add_image(
                np.zeros((16, 16), np.uint16), name=_NAMES[slot], rgb=False, units=self._units
            )
            layer.events.contrast_limits.connect(self._contrast_changed)
            layer.name_overlay.visible = True
            self._layers[slot] = layer
        return layer

    def compare(self, how: Compare) -> None:
        """Show the pictures side by side, or over each other."""
        self._compare = how
        self._arrange()
        self._viewer.canvas.grid.enabled = how is Compare.BESIDE
        self._layer(Slot.RAW).visible = how is Compare.BESIDE
        self._layer(Slot.DENOISED).visible = True
        self._layer(Slot.DENOISED).name_overlay.visible = how is not Compare.SWIPE  # which shows both
        self._viewer.reset_view(margin=0.02)
        self._join(whole=True)

    def blink(self) -> None:
        """Show the other picture, where they blink."""
        if self._compare is Compare.BLINK:
            raw, denoised = self._layer(Slot.RAW), self._layer(Slot.DENOISED)
            raw.visible, denoised.visible = denoised.visible, raw.visible

    def swipe(self, share: float) -> None:
        """Show the raw picture in a share of the width, from the left, where they are swiped."""
        self._swipe = share
        self._join(whole=True)

    def _join(self, *, whole: bool = False) -> None:
        """Put the left of the raw picture over the denoised one, where they are swiped; `whole` draws both anew."""
        layer, raw, denoised = (
            self._layer(Slot.DENOISED),
            self._pixels[Slot.RAW],
            self._pixels[Slot.DENOISED],
        )
        if denoised.shape != layer.data.shape or not (whole or self._compare is Compare.SWIPE):
            return
        np.copyto(layer.data, denoised, casting="unsafe")
        if self._compare is Compare.SWIPE and raw.shape == denoised.shape:
            cut = round(self._swipe * raw.shape[1])
            np.copyto(layer.data[:, :cut], raw[:, :cut], casting="unsafe")
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    def link(self, on: bool) -> None:
        """Show both pictures with the same contrast limits, or each with its own."""
        self.linked = on
        if on and not self.automatic and Slot.DENOISED in self._layers:
            self._follow(self._layers[Slot.DENOISED])
        self._contrast_s = 0.0

    def _follow(self, changed: Any) -> None:
        self._setting = True
        try:
            for layer in self._layers.values():
                if layer is not changed:
                    layer.contrast_limits = changed.contrast_limits
        finally:
            self._setting = False

    def _contrast_changed(self, event: Any = None) -> None:
        if self._setting or not any(self._orders.values()):
            return
        if self.automatic:
            self.automatic = False
            self._on_manual()
        if self.linked and event is not None:
            self._follow(event.source)
