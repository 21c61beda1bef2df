"""The contract of a source for those around a core; run by `test_sources_contracts` in separate processes.

python -m pytest core_contracts.py -k Replay
"""

from __future__ import annotations

from pathlib import Path

import pytest

from acquisition.bridge_peer import Peer
from denoscope.acquisition import Movie, Source
from denoscope.acquisition import testing as kit
from denoscope.acquisition.sources.micromanager.bridge import BridgeSource
from denoscope.acquisition.sources.micromanager.replay import ReplaySource


class TestReplayCamera(kit.SourceContract):
    def make(self, frames: kit.Movie, folder: Path) -> Source:
        return ReplaySource(
            Movie(frames, "numbered", "made for a test"), fps=200, frames=len(frames), buffer_mb=16
        )


# The bridge leaves the closing of its sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class TestBridge(kit.SourceContract):
    peer: Peer | None = None

    def make(self, frames: kit.Movie, folder: Path) -> Source:
        self.peer = Peer(frames)
        self.peer.start()
        return BridgeSource("127.0.0.1", self.peer.port)

    def make_absent(self, folder: Path) -> Source:
        return BridgeSource("127.0.0.1", 1)
