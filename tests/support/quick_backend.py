"""A backend for small frames in the tests' process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from denoscope.runtime import Bundle

__all__ = ["without_openvino"]


@contextmanager
def without_openvino() -> Iterator[None]:
    """Let `auto` pass over OpenVINO inside the block.

    OpenVINO compiles a shipped network for 0.3 to 1.5 s, four times as long as ONNX Runtime, and frames of tests are
    small. Processes that a test starts choose as users' do, the tests of backends and exports name theirs, and the
    contract tests compare the backends.
    """

    def unsuited(cls: type, bundle: Bundle) -> str:
        return "its frames are those of a test"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("denoscope.runtime.backends.openvino.OpenVino.unsuited", classmethod(unsuited))
        yield
