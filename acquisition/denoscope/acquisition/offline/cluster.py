"""The chunks of an offline run on a Dask cluster that exists already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from denoscope.acquisition.errors import SourceUnavailable, one_line
from denoscope.acquisition.extras import require
from denoscope.acquisition.notes.nan_count import NanCount
from denoscope.runtime import InvalidInput

from .chunks import Chunk, run_chunk

if TYPE_CHECKING:
    from denoscope.runtime import GuardFinding, Intensity, ScannerArtefacts

    from .given import GivenMovie

__all__ = ["ChunkDone", "Task", "run_on_cluster", "work_on"]


@dataclass(frozen=True)
class Task:
    """Task of every worker; all paths lie on a file system that all of them see.

    Parameters
    ----------
    given, first, length
        Movie, its first frame that is denoised and how many are.
    zarr
        OME-Zarr that is being written, a chunk a frame.
    bundle, digest
        Folder or name, and the SHA-256 that it must have on the worker too.
    backend, details, look_ahead, intensity, aligned, scanner, fix_line_offset
        How to denoise. A worker whose backend describes itself otherwise refuses, because its bits may differ.
    """

    given: GivenMovie
    first: int
    length: int
    zarr: Path
    bundle: str
    digest: str
    backend: str
    details: dict[str, str]
    look_ahead: int
    intensity: Intensity
    aligned: bool
    scanner: ScannerArtefacts
    fix_line_offset: bool


class ChunkDone(NamedTuple):
    """Chunk that is on the disk: its index, pixels and frames of NaN, findings of the guard, unusual frames."""

    chunk: int
    nan_pixels: int
    nan_frames: int
    guard: GuardFinding
    unusual: dict[str, int]


def work_on(task: Task, chunk: Chunk, start: int) -> ChunkDone:
    """Denoise one chunk on a worker, and return what was found in it.

    Frames of the chunk before `start` are there already, and counted. Doing it twice writes the same frames twice.
    """
    from denoscope.acquisition.sinks.zarr import frames_of
    from denoscope.runtime import Stream

    frames = task.given.open()
    movie = task.given.convert(frames[task.first : task.first + task.length])
    output, nan = frames_of(task.zarr, writable=True), NanCount()
    with Stream(
        task.bundle,
        task.backend,
        look_ahead=task.look_ahead,
        intensity=task.intensity,
        align=task.aligned,
        scanner=task.scanner,
        fix_line_offset=task.fix_line_offset,
        threads=int(task.details["threads"]) if "threads" in task.details else None,
    ) as stream:
        _check(task, stream.bundle.digest, dict(stream.backend_info))
        for out in run_chunk(stream, movie, chunk, start):
            output[out.meta.number] = np.asarray(out.frame)
            nan.add(out.frame)
        unusual = dict(stream.counters.unusual)
        return ChunkDone(chunk.index, nan.pixels, nan.frames, stream.guard, unusual)


def _check(task: Task, digest: str, details: dict[str, str]) -> None:
    if digest != task.digest:
        raise InvalidInput(
            f"a worker's bundle {task.bundle} has SHA-256 {digest[:12]}..., and {task.digest[:12]}... is wanted: "
            "install the same denoscope everywhere, or name a folder that all machines see."
        )
    if details != task.details:
        raise InvalidInput(
            f"a worker's backend is {details}, and the first machine's is {task.details}: the result would depend on "
            "who did what; use workers of one kind."
        )


def run_on_cluster(
    url: str,
    task: Task,
    starts: Mapping[Chunk, int],
    on_chunk: Callable[[Chunk, ChunkDone], None],
) -> None:
    """Denoise chunks on a cluster.

    Parameters
    ----------
    url
        Of the scheduler, like ``tcp://10.0.0.5:8786``.
    task, starts
        What to do: chunks, and the first frame of each that is not there yet.
    on_chunk
        Called when a chunk is on the disk, in any order, with what was found in the frames from its start on.

    Raises
    ------
    SourceUnavailable
        When no scheduler answers at `url`.
    InvalidInput
        When a worker cannot do the same as this machine, or dask is not installed.
    """
    require("distributed", extra="dask", purpose="`dask`")
    from dask.distributed import Client, as_completed

    by_index = {chunk.index: chunk for chunk in starts}
    with ExitStack() as stack:
        try:
            client: Any = stack.enter_context(Client(url, timeout="10s", set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise SourceUnavailable(
                f"no Dask scheduler answers at {url} ({one_line(error)}): start one, or check `dask`."
            ) from error
        futures = [client.submit(work_on, task, *each, pure=False) for each in starts.items()]
        try:
            for future in as_completed(futures, loop=client.loop):
                done: ChunkDone = future.result()
                on_chunk(by_index[done.chunk], done)
        except BaseException:
            client.cancel(futures)
            raise
