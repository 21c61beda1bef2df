"""The table of backends and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from denoscope.runtime.errors import BackendUnavailable, InvalidInput

from .base import Backend, Buffer, Graph, HostBuffer, default_threads

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from denoscope.runtime.bundle.bundle import Bundle

__all__ = [
    "Backend",
    "BackendEntry",
    "Buffer",
    "Choice",
    "Graph",
    "HostBuffer",
    "choose_backend",
    "default_threads",
    "list_backends",
    "register_backend",
]

_GROUP = "denoscope.backends"


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """One row of the table.

    Attributes
    ----------
    name
        What users type.
    target
        `module:class`, imported when the backend is asked about.
    automatic
        Whether `auto` may pick it; rows are tried in order.
    for_bundles
        Whether `auto` picks it only for a bundle that it knows.
    merit
        Why `auto` would pick it, to be read after "because".
    """

    name: str
    target: str
    automatic: bool = False
    for_bundles: bool = False
    merit: str = "it is installed"

    def load(self) -> type[Backend]:
        """Import the class; raise BackendUnavailable when that fails."""
        module, _, attribute = self.target.partition(":")
        try:
            loaded = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise BackendUnavailable(
                f"Backend {self.name} cannot be imported from {self.target} ({error}): "
                "reinstall the package it is from."
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
            raise BackendUnavailable(
                f"Backend {self.name} is {self.target}, which is no Backend class: "
                "make it a subclass of denoscope.runtime.Backend."
            )
        return loaded


_TABLE: dict[str, BackendEntry] = {
    entry.name: entry
    for entry in (
        # On a GPU first: whoever installed an extra for it wants it used.
        BackendEntry(
            "tensorrt-rtx",
            "denoscope.runtime.backends.tensorrt:TensorRtRtx",
            automatic=True,
            merit="engines for this GPU have been built",
        ),
        BackendEntry(
            "tensorrt",
            "denoscope.runtime.backends.tensorrt:TensorRt",
            automatic=True,
            merit="engines for this GPU have been built",
        ),
        BackendEntry(
            "onnxruntime-nv-tensorrt-rtx",
            "denoscope.runtime.backends.onnxruntime_gpu:OnnxRuntimeNvTensorRtRtx",
            automatic=True,
            merit="it compiles the graphs for this GPU with TensorRT for RTX",
        ),
        BackendEntry(
            "cuda",
            "denoscope.runtime.backends.own_kernels:OwnKernels",
            automatic=True,
            merit="its kernels are made for this bundle and compiled for this GPU",
        ),
        BackendEntry(
            "onnxruntime-cuda",
            "denoscope.runtime.backends.onnxruntime_gpu:OnnxRuntimeCuda",
            automatic=True,
            merit="it runs on this GPU",
        ),
        # By name only: it builds engines for minutes when a frame size is first seen.
        BackendEntry(
            "onnxruntime-tensorrt", "denoscope.runtime.backends.onnxruntime_gpu:OnnxRuntimeTensorRt"
        ),
        BackendEntry(
            "openvino-bf16",
            "denoscope.runtime.backends.openvino:OpenVinoBf16",
            automatic=True,
            for_bundles=True,
            merit="this processor computes in bfloat16, in which the bundle loses less than 0.02 dB",
        ),
        BackendEntry(
            "openvino",
            "denoscope.runtime.backends.openvino:OpenVino",
            automatic=True,
            merit="it is the fastest installed backend that computes in float32",
        ),
        BackendEntry(
            "onnxruntime-cpu",
            "denoscope.runtime.backends.onnxruntime:OnnxRuntimeCpu",
            automatic=True,
            merit="it runs on any processor",
        ),
    )
}
_registered: dict[str, BackendEntry] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """Backend that was chosen, and the reason.

    Attributes
    ----------
    name
        The backend.
    reason
        One clause for the screen and the report.
    rejected
        Why each backend that was considered first cannot run here.
    """

    name: str
    reason: str
    rejected: Mapping[str, str] = field(default_factory=dict)


def register_backend(name: str, target: str) -> None:
    """Add a backend to the table for this process.

    Packages do the same for every process with an entry point `NAME = "module:class"` in the group
    `denoscope.backends`.

    Parameters
    ----------
    name
        What users type; `auto` never picks it.
    target
        `module:class`, a subclass of `Backend`; imported when it is first asked about.

    Raises
    ------
    InvalidInput
        If the name is taken by a backend of denoscope, or the target has no colon.

    Examples
    --------
    >>> register_backend("mine", "my_package:MyBackend")
    >>> list_backends()["mine"] is None  # the package is not there
    False
    """
    if name in _TABLE or name == "auto":
        raise InvalidInput(
            f"The backend name {name} belongs to denoscope: register yours under another name."
        )
    if ":" not in target:
        raise InvalidInput(f"The target {target!r} does not name a class: write it as module:class.")
    _registered[name] = BackendEntry(name, target)


def list_backends(bundle: Bundle | None = None) -> dict[str, str | None]:
    """Return every known backend with the reason why it cannot run here, None when it can.

    Parameters
    ----------
    bundle
        What it shall run; None asks for the backend alone, which may still want engines of a bundle.

    Returns
    -------
    dict of str to str or None
        Reasons by name, in the order in which ``auto`` tries them.

    Examples
    --------
    >>> list_backends()["onnxruntime-cpu"] is None
    True
    """
    return {name: _obstacle(entry, bundle) for name, entry in _entries().items()}


def choose_backend(
    name: str = "auto",
    *,
    threads: int | None = None,
    bundle: Bundle | None = None,
    rejected: Mapping[str, str] | None = None,
) -> tuple[Backend, Choice]:
    """Open a backend.

    Parameters
    ----------
    name
        A backend's name, or `auto` for the first of the table that can run here.
    threads
        Threads for one graph; None leaves it to `default_threads`.
    bundle
        What it will run: `auto` then passes over backends that cannot, for want of engines.
    rejected
        Backends that `auto` has already tried in vain, with the reasons.

    Returns
    -------
    Backend, Choice
        The backend and why it was chosen.

    Raises
    ------
    InvalidInput
        If no backend has that name.
    BackendUnavailable
        If the named backend cannot run here, or none can.

    Examples
    --------
    >>> backend, choice = choose_backend("onnxruntime-cpu")
    >>> choice.name, choice.reason
    ('onnxruntime-cpu', 'it was asked for by name')
    >>> backend.close()
    """
    if name != "auto":
        # Asking every installed package for backends takes 8 ms: only for names that are not our own.
        entries = _TABLE if name in _TABLE else _entries()
        if name not in entries:
            raise InvalidInput(
                f"There is no backend {name!r}: choose auto or one of {', '.join(sorted(entries))}."
            )
        obstacle = _obstacle(entries[name])
        if obstacle is not None:
            raise BackendUnavailable(f"Backend {name} cannot run here: {obstacle}.")
        return entries[name].load()(threads=threads), Choice(name, "it was asked for by name")
    against = dict(rejected or {})
    for entry in _TABLE.values():  # those of others are chosen by name only
        if not entry.automatic or entry.name in against or (entry.for_bundles and bundle is None):
            continue
        obstacle = _obstacle(entry, bundle) or (None if bundle is None else entry.load().unsuited(bundle))
        if obstacle is None:
            try:
                return entry.load()(threads=threads), Choice(entry.name, entry.merit, against)
            except BackendUnavailable as error:  # only opening it shows that a driver or a GPU is not sound
                obstacle = str(error).rstrip(".")
        against[entry.name] = obstacle
    reasons = "; ".join(f"{backend}: {why}" for backend, why in against.items())
    raise BackendUnavailable(f"No backend can run here ({reasons}): denoscope doctor names what to install.")


def _entries() -> dict[str, BackendEntry]:
    from importlib.metadata import entry_points

    found = {e.name: _from_entry_point(e) for e in entry_points(group=_GROUP)}
    return {**_TABLE, **{n: e for n, e in {**found, **_registered}.items() if n not in _TABLE}}


def _from_entry_point(point: EntryPoint) -> BackendEntry:
    return BackendEntry(point.name, point.value)


def _obstacle(entry: BackendEntry, bundle: Bundle | None = None) -> str | None:
    try:
        backend = entry.load()
        return backend.unavailable() or (None if bundle is None else backend.obstacle(bundle))
    except BackendUnavailable as error:
        return str(error).rstrip(".")
