"""Loss and gain of bundles in bfloat16 on the processor, as they were measured.

Measured by `benchmarks/bfloat16.py`: the largest loss of a bundle against float32, in dB, over recordings of 0.3 to
10,000 photons a pixel, and how many times as fast a frame is, the least of all sizes. A bundle is known by the SHA-256
of its weights: any other has not been measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = ["LEAST_GAIN", "LOSS_DB", "MOST_DB", "TIMES_AS_FAST", "why_not"]

LOSS_DB = {
    "313db4bd2f093492486bdeead246f411af3a6027b6adbe79dff4947c3b4c9a2b": 0.012,  # live
    "e399bf8cc067d51d70301b299826a721986888e49fa4e40292fc7259bfaca661": 0.008,  # live-fast
    "3b94ba3863dfa3d81ded7130fb4160ebd961798285ae9d751589e3c1854ad0f1": 0.023,  # live-hq
}
TIMES_AS_FAST = {
    "313db4bd2f093492486bdeead246f411af3a6027b6adbe79dff4947c3b4c9a2b": 1.8,  # live
    "e399bf8cc067d51d70301b299826a721986888e49fa4e40292fc7259bfaca661": 1.3,  # live-fast
    "3b94ba3863dfa3d81ded7130fb4160ebd961798285ae9d751589e3c1854ad0f1": 1.6,  # live-hq
}
MOST_DB = 0.02
"""Loss that `auto` accepts."""
LEAST_GAIN = 1.2
"""How many times as fast a frame must be for `auto`."""


def why_not(bundle: Bundle) -> str | None:
    """Return why `auto` does not take bfloat16 for a bundle, as it was measured; None where it does."""
    name, weights = bundle.manifest.name, bundle.manifest.files.get("weights.safetensors", "")
    loss, gain = LOSS_DB.get(weights), TIMES_AS_FAST.get(weights)
    if loss is None or gain is None:
        return f"the loss of {name} in bfloat16 is not known: name the backend to use it"
    if loss > MOST_DB:
        return f"{name} loses {loss:g} dB in bfloat16, more than {MOST_DB:g}: name the backend to use it"
    if gain < LEAST_GAIN:
        return f"{name} is only {gain:g} times as fast in bfloat16, not {LEAST_GAIN:g}: name the backend to use it"
    return None
