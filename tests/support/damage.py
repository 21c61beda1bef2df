"""Files broken in many ways, each known by a number."""

from __future__ import annotations

import random

__all__ = ["mutated"]


def mutated(data: bytes, seed: int) -> bytes:
    """Return one of many ways to break a file: cut, bits, bytes, a piece less, a piece twice."""
    chance = random.Random(seed)
    broken = bytearray(data)
    at = chance.randrange(len(broken))
    if seed % 5 == 0:
        return bytes(broken[:at])
    if seed % 5 == 1:
        for _ in range(4):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    elif seed % 5 == 2:
        for _ in range(chance.choice([1, 20, 200])):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
    elif seed % 5 == 3:
        del broken[at : at + chance.randrange(1, 300)]
    else:
        broken[at:at] = broken[at : at + chance.randrange(1, 300)]
    return bytes(broken)
