"""Engines of a bundle for GPUs that need not be in this machine, and the folder that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.processes.signals import CommandEnd

from .results import BuiltEngine, BuiltEngines, DeletedEngine, DeletedEngines, EngineCheck, EngineChecks

if TYPE_CHECKING:
    from denoscope.export import EnginePlan
    from denoscope.runtime import Bundle

__all__ = ["BuildListener", "build_engines", "check_engines", "prune_engines"]


class BuildListener:
    """Follow a build; every method does nothing unless it is overridden."""

    def planned(self, engines: int, reasons: Sequence[str]) -> None:
        """Take the number of engines, and why each kind of builder was chosen."""

    def progressed(self, done: float, text: str) -> None:
        """Take the engines done so far (a fraction counts the one being built) and what is going on."""

    def finished(self, engine: BuiltEngine) -> None:
        """Take an engine that is ready."""


def build_engines(
    bundle: Bundle | Path | str,
    targets: str,
    *,
    size: Sequence[str] = (),
    dynamic: str | None = None,
    flavour: str = "auto",
    tf32: bool = False,
    precision: str = "fp16",
    cache: Path | str | None = None,
    listener: BuildListener | None = None,
) -> BuiltEngines:
    """Build a bundle's GPU engines ahead of time, as ``denoscope build`` does; the GPU need not be here.

    Parameters
    ----------
    bundle
        Bundle, its name or its folder.
    targets
        GPUs or compute capabilities with commas between them, like ``"rtx3060,rtx4090,sm120"``.
    size
        Frame sizes ``"HEIGHTxWIDTH"`` in pixels that the engines are fastest at.
    dynamic
        ``"SMALLEST..LARGEST"`` in pixels: any frame with sides in this range.
    flavour
        ``tensorrt_rtx`` (RTX GPUs, ahead of time), ``tensorrt`` (on the GPU itself) or ``auto``.
    tf32
        Let float32 convolutions round to 10 bits: faster, less exact.
    precision
        ``fp16``: convolutions in half precision, twice as fast for 0.001 dB; ``fp32``: graphs as they are.
    cache
        Folder of engines; None for the user's own cache folder.
    listener
        Told about every step.

    Returns
    -------
    BuiltEngines
        One entry an engine. After Ctrl-C it holds those that are done, and `interrupted` is True.

    Raises
    ------
    InvalidInput
        If there is no such bundle, GPU, size or flavour.
    BuilderUnavailable
        If an engine for a target cannot be built here.
    EngineBuildFailed
        If TensorRT refuses a graph.

    Examples
    --------
    >>> from denoscope.acquisition import build_engines
    >>> build_engines("live", "rtx4090", size=["0x0"])
    Traceback (most recent call last):
        ...
    denoscope.runtime.errors.InvalidInput: `size` 0x0 has a side of 0 pixels: 16 to 8192 are possible.
    """
    from denoscope.export import build_engine, parse_range, parse_size, parse_targets, plan_engines
    from denoscope.runtime import Bundle
    from denoscope.runtime.engines import EngineCache

    told = listener or BuildListener()
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    plans = plan_engines(
        loaded,
        parse_targets(targets),
        [parse_size(text) for text in size],
        dynamic=None if dynamic is None else parse_range(dynamic),
        flavour=flavour,
        tf32=tf32,
        precision=precision,
    )
    told.planned(len(plans), list(dict.fromkeys(plan.why for plan in plans)))
    folder = EngineCache(None if cache is None else Path(cache))
    engines: list[BuiltEngine] = []
    interrupted = False
    try:
        for index, plan in enumerate(plans):
            what = _what(plan)

            def progress(done: float, phase: str, what: str = what, index: int = index) -> None:
                told.progressed(index + done, f"{what}: {phase}")

            def waiting(what: str = what, index: int = index) -> None:
                told.progressed(index, f"{what}: another process is building it, waiting")

            told.progressed(index, what)
            found = build_engine(plan, folder, on_progress=progress, on_wait=waiting)
            engines.append(BuiltEngine.of(found.path, found.built, found.reason, found.manifest))
            told.finished(engines[-1])
    except KeyboardInterrupt:
        CommandEnd.is_near()
        interrupted = True
    return BuiltEngines(folder=folder.folder, engines=engines, interrupted=interrupted)


def check_engines(cache: Path | str | None = None) -> EngineChecks:
    """Check every engine in a folder completely, as ``denoscope engines verify`` does.

    Parameters
    ----------
    cache
        Folder of engines; None for the user's own cache folder. One that does not exist holds no engine.

    Returns
    -------
    EngineChecks
        Each engine, and what is wrong with it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from denoscope.acquisition import check_engines
    >>> check_engines(Path("no-such-folder")).engines
    []
    """
    from denoscope.runtime.engines import EngineCache

    folder = EngineCache(None if cache is None else Path(cache))
    checks = [EngineCheck(path=s.path, problem=s.problem, manifest=s.manifest) for s in folder.verify()]
    return EngineChecks(folder=folder.folder, engines=checks)


def prune_engines(cache: Path | str | None = None, *, everything: bool = False) -> DeletedEngines:
    """Delete engines that are of no more use, as ``denoscope engines prune`` does.

    Parameters
    ----------
    cache
        Folder of engines; None for the user's own cache folder.
    everything
        Delete good ones too.

    Returns
    -------
    DeletedEngines
        The folder, and the engines that were deleted from it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from denoscope.acquisition import prune_engines
    >>> prune_engines(Path("no-such-folder")).deleted
    []
    """
    from denoscope.export import installed_versions
    from denoscope.runtime.engines import EngineCache

    folder = EngineCache(None if cache is None else Path(cache))
    gone = folder.prune(installed_versions(), everything=everything)
    deleted = [DeletedEngine(path=path, reason=reason) for path, reason in gone]
    return DeletedEngines(folder=folder.folder, deleted=deleted)


def _what(plan: EnginePlan) -> str:
    return f"{plan.spec.graph} for {plan.spec.target}"
