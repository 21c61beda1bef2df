"""The denoiser's process with a stand-in for a GPU: run as a module in the place of the product's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
from denoscope.acquisition.denoisers.process import main
from denoscope.runtime import register_backend

__all__ = ["open_on_host"]


def open_on_host(request: DenoiserRequest) -> Any:
    """Open the denoiser that was asked for on the lazy device."""
    register_backend("on-host", "support.gpu_on_host:CudaOnHost")
    return LocalDenoiser(replace(request, backend="on-host"))


if __name__ == "__main__":
    main(open_on_host)
