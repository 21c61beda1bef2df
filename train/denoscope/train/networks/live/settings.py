"""Shape of the `live` network: its sizes, its blind spot, its window and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from denoscope.runtime import InvalidInput
from denoscope.train.data.sampling import CELL

__all__ = ["BLIND_SPOTS", "SIZES", "LiveNetSettings"]

# What the network hides from itself, so that noise shared with the target stays out.
BLIND_SPOTS = ("cell", "bleed", "row", "neighbours")


@dataclass(frozen=True)
class LiveNetSettings:
    """Shape of a `LiveNet`.

    Attributes
    ----------
    window
        Number of frames N that one output sees, odd.
    look_ahead
        Frames after the centre, at most N // 2. Fewer may be used live with the same weights.
    memory_decay
        Time constants of the exponential averages of the past, in frames.
    two_sided
        Whether the frames after the window are remembered as well, in averages that run backwards from the end of the
        movie: for recorded movies.
    encode_channels
        Learned features per frame.
    encode_width, trunk_width, deep_width
        Channels inside `encode`, of the half-resolution and of the quarter-resolution trunk.
    spatial_channels
        Features of each ring of spatial neighbours.
    blind_width, blind_depth
        Channels of the deep view of the current frame, and its convolutions after the first; 0 of them
        leave the rings alone.
    blind_spot
        What the rings hide besides the target's cell of 2 x 2 pixels: `cell` nothing (white noise),
        `bleed` the cells left and right (a detector that bleeds along a row), `row` the whole row
        (noise shared by a row), `neighbours` all eight cells around (interpolated frames).
    guided
        Whether neighbours are warped along the flow to the centre.
    calibrated
        Whether the predicted standard deviation has a separate correction, learned so that 68 % and
        95 % of the truth lie within it.
    subpixel
        Whether frames of a scene that is followed are put on each other to a fraction of a pixel, each place by its
        own displacement: neighbours and long memory are sampled where the centre's pixels are (`_places`).
    second_width
        Channels of the second stage, which sees the measured frame and corrects the posterior mean; 0 for
        none. Only truth can teach it: a network that learns from noisy movies alone has no use for one.
    """

    window: int = 7
    look_ahead: int = 3
    memory_decay: tuple[float, ...] = (4.0, 16.0, 64.0, 256.0)
    encode_channels: int = 16
    encode_width: int = 24
    trunk_width: int = 32
    deep_width: int = 48
    spatial_channels: int = 8
    blind_width: int = 16
    blind_depth: int = 2
    blind_spot: str = "bleed"
    guided: bool = False
    calibrated: bool = True
    second_width: int = 0
    subpixel: bool = False
    two_sided: bool = False

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0 or not 0 <= self.look_ahead <= self.window // 2:
            raise InvalidInput(
                f"window {self.window} with look-ahead {self.look_ahead} cannot be built: the window must be "
                f"odd, at least 3, and the look-ahead at most half of it."
            )
        if self.blind_spot not in BLIND_SPOTS:
            raise InvalidInput(
                f"There is no blind spot `{self.blind_spot}`: choose one of {', '.join(BLIND_SPOTS)}."
            )

    @classmethod
    def preset(cls, size: str, **changes: Any) -> LiveNetSettings:
        """Return the settings of `fast`, `standard`, `hq` or `recorded`, with `changes` applied.

        Raises
        ------
        InvalidInput
            If there is no such size.
        """
        if size not in SIZES:
            raise InvalidInput(f"There is no size `{size}`: choose one of {', '.join(SIZES)}.")
        return cls(**{**SIZES[size], **changes})

    @property
    def feature_channels(self) -> int:
        """Channels of one frame's features: the cell's four pixels, then the learned ones."""
        return CELL + self.encode_channels

    @property
    def memories(self) -> int:
        """Number of averages in the long memory, on both sides."""
        return len(self.memory_decay) * (2 if self.two_sided else 1)

    @property
    def memory_channels(self) -> int:
        """Channels of the long memory."""
        return CELL * self.memories

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values for JSON."""
        return asdict(self)


_HQ: dict[str, int | bool] = {
    "subpixel": True,
    "encode_channels": 24,
    "encode_width": 48,
    "trunk_width": 64,
    "deep_width": 128,
    "spatial_channels": 16,
    "blind_width": 32,
    "blind_depth": 3,
    "guided": True,
    "second_width": 48,
}

# Cost of a frame at 256 x 256 in the unit of docs/results/speed.md, OpenVINO float32: 0.47, 0.86 and 3.8.
SIZES: dict[str, dict[str, int | bool]] = {
    "fast": {
        "subpixel": True,
        "encode_channels": 12,
        "encode_width": 16,
        "trunk_width": 16,
        "deep_width": 48,
        "spatial_channels": 4,
        "second_width": 8,
    },
    "standard": {"subpixel": True, "second_width": 24},
    "hq": _HQ,
    "recorded": {**_HQ, "two_sided": True},
}
