"""Build in a separate process: a crash inside TensorRT is an error here, and Ctrl-C ends it at once.

The child gets one line of JSON, what is known of the GPU's timings and the graph on standard input. It answers
with lines of JSON on standard output, the last of which announces the engine and new timings, whose bytes follow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, BinaryIO

from denoscope.export.builder import BuildRequest, Timings, build, load
from denoscope.export.errors import EngineBuildFailed
from denoscope.runtime.children import child_command, child_environment
from denoscope.runtime.engines import EngineContents

__all__ = ["build_in_process_of_its_own", "serve"]


def build_in_process_of_its_own(
    onnx: bytes,
    request: BuildRequest,
    on_progress: Callable[[float, str], None] | None = None,
    timings: Timings | None = None,
) -> tuple[bytes, EngineContents]:
    """Build one engine in a child process.

    Parameters
    ----------
    onnx
        The serialised graph, all weights inside.
    request
        What to build.
    on_progress
        Called with the done share (0 to 1) and the builder's present phase.
    timings
        Extended by a build that succeeds; None for a flavour that times no kernels.

    Returns
    -------
    data, contents
        The serialised engine, and its network.

    Raises
    ------
    EngineBuildFailed
        If TensorRT refuses the graph, or its process ends without an answer.
    """
    with (
        tempfile.TemporaryFile() as words,
        subprocess.Popen(  # noqa: S603  our own interpreter and module
            child_command(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=child_environment(as_here=True),
        ) as child,
    ):
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it ended early: its exit code says more
                head = dataclasses.asdict(request) | {
                    "timings": None if timings is None else len(timings.data)
                }
                known = b"" if timings is None else timings.data
                child.stdin.write(json.dumps(head).encode() + b"\n" + known + onnx)
                child.stdin.close()
            answer = _listen(child.stdout, on_progress, timings)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        if answer is not None:
            return answer
        words.seek(0)
        said = words.read().decode(errors="replace").strip().splitlines()
    raise EngineBuildFailed(
        f"{request.flavour} {request.version} ended with the code {code} while it was building "
        f"{request.graph}.onnx ({said[-1] if said else 'it said nothing'}): the graph may be damaged, "
        "or memory ran out; export the bundle again, or build for a smaller `size`."
    )


def _listen(
    pipe: IO[bytes], on_progress: Callable[[float, str], None] | None, timings: Timings | None
) -> tuple[bytes, EngineContents] | None:
    for line in pipe:
        message = json.loads(line)
        if "error" in message:
            raise EngineBuildFailed(message["error"])
        if "engine" in message:
            data = pipe.read(message["engine"])
            times = pipe.read(message["timings"])
            if (len(data), len(times)) != (message["engine"], message["timings"]):
                return None
            if timings is not None:
                timings.data = times
            return data, EngineContents.model_validate(message["contents"])
        if on_progress is not None:
            on_progress(message["done"], message["phase"])
    return None


def serve(source: BinaryIO, answers: BinaryIO) -> None:
    """Read one request from `source`, build it, and write the answer to `answers`."""
    fields = json.loads(source.readline())
    known = fields.pop("timings")
    timings = None if known is None else Timings(source.read(known))
    fields["target"] = tuple(fields["target"])
    request = BuildRequest(**fields)
    lock = threading.Lock()

    def tell(message: dict[str, object]) -> bool:
        try:
            with lock:
                answers.write(json.dumps(message).encode() + b"\n")
                answers.flush()
        except OSError:
            return False  # nobody listens any more: stop building
        return True

    last = [0.0]

    def show(done: float, phase: str) -> bool:
        if done < last[0] + 0.01:
            return True
        last[0] = done
        return tell({"done": done, "phase": phase})

    try:
        trt = load(request.flavour)
        if str(trt.__version__) != request.version:
            raise EngineBuildFailed(  # noqa: TRY301  one way out for every failure
                f"{request.flavour} is {trt.__version__} in the process that builds and {request.version} in "
                "the one that asks: start again."
            )
        data, contents = build(trt, _lowered(source.read(), request), request, show, timings)
    except EngineBuildFailed as error:
        tell({"error": str(error)})
        return
    times = b"" if timings is None else timings.data
    if tell({"engine": len(data), "timings": len(times), "contents": contents.model_dump(mode="json")}):
        answers.write(data + times)
        answers.flush()


def _lowered(onnx: bytes, request: BuildRequest) -> bytes:
    if request.flavour == "tensorrt_rtx" and request.target == (7, 5):
        from denoscope.export.lowering import gemm_as_products

        try:
            return gemm_as_products(onnx)
        except Exception as error:  # protobuf's two implementations raise different ones
            raise EngineBuildFailed(
                f"{request.graph}.onnx is not an ONNX model ({error}): export the bundle again."
            ) from error
    return onnx


def _main() -> None:
    # Ctrl-C reaches the whole console: the parent decides, and kills this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries that print must not print between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
