"""The arithmetic that a training takes by itself."""

from __future__ import annotations

import pytest
import torch

from denoscope.train.fitting.precision import automatic_precision


@pytest.mark.parametrize(
    ("capabilities", "gpu", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, False, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": True}, False, "bf16-mixed"),
        ({"avx2": True, "avx512_bf16": False}, False, "32"),
        ({"neon": True}, False, "32"),
        ({"avx512_bf16": True}, True, "32"),
    ],
)
def test_bfloat16_only_where_the_processor_computes_in_it(
    capabilities: dict[str, bool], gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert automatic_precision() == expected


def test_an_older_torch_that_cannot_tell_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert automatic_precision() == "32"
