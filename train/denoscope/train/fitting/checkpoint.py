"""A training's complete state on disk: safetensors only, replaced in one step, refused when it is another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from denoscope.runtime import InvalidInput

__all__ = [
    "digest_of",
    "load_tensors",
    "optimizer_tensors",
    "refuse_missing",
    "refuse_pickle",
    "remove_checkpoint",
    "restore_optimizer",
    "save_tensors",
    "split",
]

_PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"}
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def refuse_pickle(path: Path) -> None:
    """Raise `InvalidInput` if `path` has the name or the first bytes of a pickle or torch archive."""
    start = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(4)
    if path.suffix.lower() in _PICKLE_SUFFIXES or start.startswith(_PICKLE_STARTS):
        raise InvalidInput(
            f"{path} is a pickle checkpoint, which can run any program when it is read: denoscope reads "
            "safetensors files only."
        )


def refuse_missing(path: Path) -> None:
    """Raise `InvalidInput` if there is no checkpoint at `path`."""
    if not path.is_file():
        raise InvalidInput(f"There is no checkpoint at {path} to go on from: start without `resume`.")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON values to `path` in one step: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, partial, metadata={name: json.dumps(value) for name, value in metadata.items()})
    partial.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises
    ------
    InvalidInput
        If there is no such file, or it is a pickle or anything but a safetensors file.
    """
    refuse_missing(path)
    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} is not a checkpoint of this training ({error}): start anew without `resume`."
        ) from error


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint and all that belongs to it."""
    for file in (path, *path.parent.glob(f"{path.stem}.epoch-*"), *path.parent.glob(f"{path.name}.partial")):
        file.unlink(missing_ok=True)


def split(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors named ``part.NAME``, by NAME."""
    return {name[len(part) + 1 :]: value for name, value in tensors.items() if name.startswith(part + ".")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments of every parameter as ``INDEX.KEY``."""
    return {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the moments back, laid out in memory as their parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        shaped = parameters[int(index)].shape == value.shape
        laid = torch.empty_like(parameters[int(index)]).copy_(value) if shaped and value.ndim else value
        moments.setdefault(int(index), {})[key] = laid.detach()
    complete = optimizer.state_dict()
    complete["state"] = moments
    optimizer.load_state_dict(complete)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of all values, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]
