"""Losses of bundles in bfloat16 on the processor, as they were measured.

Measured by `benchmarks/bfloat16.py`: the largest loss of a bundle against float32, in dB, over recordings of 0.3 to
10,000 photons a pixel. A bundle is known by the SHA-256 of its weights: any other has not been measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = ["LOSS_DB", "MOST_DB", "loss_db"]

LOSS_DB = {
    "313db4bd2f093492486bdeead246f411af3a6027b6adbe79dff4947c3b4c9a2b": 0.012,  # live
    "e399bf8cc067d51d70301b299826a721986888e49fa4e40292fc7259bfaca661": 0.008,  # live-fast
    "3b94ba3863dfa3d81ded7130fb4160ebd961798285ae9d751589e3c1854ad0f1": 0.023,  # live-hq
}
MOST_DB = 0.02
"""Loss that `auto` accepts."""


def loss_db(bundle: Bundle) -> float | None:
    """Return the loss of a bundle in dB, None where it has not been measured."""
    return LOSS_DB.get(bundle.manifest.files.get("weights.safetensors", ""))
