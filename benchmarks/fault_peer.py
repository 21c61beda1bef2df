"""A Micro-Manager for the rows of `fault_matrix.py`: the tests' peer, and what somebody else does with its camera.

    python fault_peer.py KIND MOVIE

Prints its port, serves until standard input ends, then prints what happened to the camera.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import tifffile

from acquisition.bridge_peer import RUNNING, Camera, Peer

__all__ = ["FRAMES"]

FRAMES = 240
_RATE_HZ = 60.0
_BUSY_S = 5.0


class _Busy(Peer):
    """Answer nobody for a while, as where a script's call takes its time."""

    slept = False

    def _answer(self, message):  # type: ignore[no-untyped-def]
        if self.popped > FRAMES // 4 and not self.slept:
            self.slept = True
            time.sleep(_BUSY_S)
        return super()._answer(message)


class _Intruder(Peer):
    """Stop the guest's sequence and start another one, as the user does with the window's buttons."""

    def _answer(self, message):  # type: ignore[no-untyped-def]
        if self.popped > FRAMES // 4 and self.camera.owner == "us":
            with self.camera.lock:
                self.camera.stop("gui")
                self.camera.start("gui")
        return super()._answer(message)


def main() -> None:
    """Serve."""
    kind, movie = sys.argv[1], tifffile.imread(sys.argv[2])
    camera = Camera(movie[np.arange(FRAMES) % len(movie)], rate_hz=_RATE_HZ)
    peer: Peer
    match kind:
        case "busy":
            peer = _Busy(camera)
        case "intruder":
            peer = _Intruder(camera)
        case "refuses":
            peer = Peer(camera, raises={"startSequenceAcquisition": RUNNING})
        case "ahead":
            peer = Peer(camera, ahead=True)
        case "tags":
            peer = Peer(camera, tags={"Objective-Label": "10 \N{GREEK SMALL LETTER MU}m"})
        case "overflow":
            camera.rate_hz, camera.capacity = 100_000.0, 100
            peer = Peer(camera)
        case _:
            peer = Peer(camera)
    if kind == "taken":
        camera.start("gui")
    peer.start()
    print(peer.port, flush=True)
    sys.stdin.read()
    print(
        json.dumps({"events": camera.events, "gui_runs": camera.running() and camera.owner == "gui"}),
        flush=True,
    )


if __name__ == "__main__":
    main()
