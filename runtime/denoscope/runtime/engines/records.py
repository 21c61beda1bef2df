"""Identity of an engine, and the record that lies beside it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["EngineContents", "EngineManifest", "EngineSpec", "SizeRange", "TensorRecord"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Pixels = Annotated[int, Field(ge=1)]


class SizeRange(BaseModel):
    """Frame sizes that one optimisation profile of an engine covers, (height, width) in pixels.

    Attributes
    ----------
    minimum, maximum
        Ends of the range, included; equal for a fixed size.
    typical
        The size that the engine is made fastest for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    minimum: tuple[Pixels, Pixels]
    typical: tuple[Pixels, Pixels]
    maximum: tuple[Pixels, Pixels]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, middle, high in zip(self.minimum, self.typical, self.maximum, strict=True):
            if not low <= middle <= high:
                raise ValueError(f"{middle} does not lie between {low} and {high}")
        return self

    def covers(self, height: int, width: int) -> bool:
        """Return whether a frame of this size, already padded to the bundle's stride, fits."""
        (low_h, low_w), (high_h, high_w) = self.minimum, self.maximum
        return low_h <= height <= high_h and low_w <= width <= high_w

    def __str__(self) -> str:
        low, high = (f"{h}x{w}" for h, w in (self.minimum, self.maximum))
        return low if low == high else f"{low}..{high}"


class EngineSpec(BaseModel):
    """Everything that decides what an engine is; its digest is the engine's key.

    Attributes
    ----------
    layout_version
        Of this page; 1.
    graph
        `encode`, `remember` or `fuse`.
    onnx_sha256
        Of the serialised graph.
    flavour
        The TensorRT distribution that builds and runs the engine.
    flavour_version
        Its full version; an engine of another version is another engine.
    target
        `sm86` for any GPU of that compute capability, or `sm90 NVIDIA H200` for that GPU alone.
    profiles
        Frame sizes covered, in the engine's own order.
    options
        Builder options by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    layout_version: Literal[1] = 1
    graph: Annotated[str, Field(min_length=1)]
    onnx_sha256: Sha256
    flavour: Literal["tensorrt", "tensorrt_rtx"]
    flavour_version: Annotated[str, Field(min_length=1)]
    target: Annotated[str, Field(pattern=r"^sm\d{2,3}( .+)?$")]
    profiles: Annotated[tuple[SizeRange, ...], Field(min_length=1)]
    options: dict[str, str] = {}

    @property
    def key(self) -> str:
        """SHA-256 over all of it, in hexadecimal."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class TensorRecord(BaseModel):
    """One input or output of an engine; sizes that vary are -1."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    dtype: str
    shape: tuple[int, ...]


class EngineContents(BaseModel):
    """Layers and tensors of the network that the builder made an engine of.

    Attributes
    ----------
    inputs, outputs
        In the network's order.
    layers
        Number of layers before the builder merges them.
    layer_types
        Layers counted by kind and the data type that they compute, for example `CONVOLUTION/HALF`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    inputs: tuple[TensorRecord, ...] = ()
    outputs: tuple[TensorRecord, ...] = ()
    layers: Annotated[int, Field(ge=0)] = 0
    layer_types: dict[str, int] = {}


class EngineManifest(BaseModel):
    """The JSON file beside an engine.

    Attributes
    ----------
    spec
        What the engine was asked to be; its key names the files.
    sha256, size
        Of the engine file, size in bytes.
    created
        Date and time, ISO 8601.
    bundle
        Name of the bundle that it was first built from.
    contents
        What the builder saw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    spec: EngineSpec
    sha256: Sha256
    size: Annotated[int, Field(ge=1)]
    created: str
    bundle: str = ""
    contents: EngineContents = EngineContents()
