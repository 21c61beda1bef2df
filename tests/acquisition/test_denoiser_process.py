"""The denoiser in a separate process: the same bits as in this one, and its death is not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquisition.conftest import environment
from denoscope.acquisition.contracts import Frame, Stamp
from denoscope.acquisition.denoisers.exchange import IN_FLIGHT, SLOTS
from denoscope.acquisition.denoisers.facts import UNKNOWN
from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
from denoscope.acquisition.errors import DenoiserFailed, DenoiserLost
from denoscope.acquisition.lane.lane import DenoiseLane
from denoscope.acquisition.processes.child import Child
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.results import SessionReport, Timing
from denoscope.acquisition.session.ending.summary import summary
from denoscope.runtime import Denoised, FrameMeta, InvalidInput, StreamKey
from support.tiny_bundle import tiny_bundle

KEY = StreamKey("A")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(scope="module")
def with_std(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that calibrates on more frames than fit into the shared memory at once."""
    folder = tmp_path_factory.mktemp("bundles") / "std.denoscope"
    tiny_bundle(folder, intensity=None, calibration_frames=SLOTS + 1)
    return folder


@pytest.fixture
def patience_s() -> float:
    """Wait for long where no test is about a process that hangs: a busy computer may keep it from its work."""
    return 60.0


@pytest.fixture
def remote(bundle: Path, patience_s: float) -> Iterator[RemoteDenoiser]:
    denoiser = RemoteDenoiser(DenoiserRequest(str(bundle)), patience_s=patience_s)
    denoiser.prepare((24, 32), np.uint16, 1)
    yield denoiser
    denoiser.close()


def frames(count: int, shape: tuple[int, int] = (24, 32)) -> Any:
    return np.random.default_rng(count).poisson(90, (count, *shape)).astype(np.uint16)


def push(
    denoiser: Any, pixels: Any, number: int, key: StreamKey = KEY, at_s: float | None = None, **more: Any
) -> Any:
    received_s = time.perf_counter() if at_s is None else at_s
    meta = FrameMeta(number, received_s, key, source_index=7 * number)
    return denoiser.push(pixels, meta, **more)


def play(denoiser: Any, began_s: float) -> list[Denoised]:
    """Two movies that take turns, a gap, skips, a larger and an eight-bit frame, a restart.

    All came at once, however slow this computer is: movies of slow frames are shown early.
    """
    other, when = StreamKey("B", "DAPI", 1, 2), {"at_s": began_s}
    outputs = []
    for number, frame in enumerate(frames(30)):
        outputs += push(
            denoiser, frame, number + 3 * (number > 20), skip="late" if number == 15 else None, **when
        )
        outputs += push(denoiser, frame // 2, number, other, **when)
    outputs += denoiser.restart(other, recalibrate=True)
    for number, frame in enumerate(frames(12, (40, 48))):
        outputs += push(denoiser, frame, 40 + number, **when)
        outputs += push(denoiser, frame.astype(np.uint8)[:16, ::2], 40 + number, other, **when)
    return outputs + denoiser.flush()


def test_the_outputs_are_those_of_this_process(with_std: Path) -> None:
    request = DenoiserRequest(str(with_std), backend="onnxruntime-cpu", threads=1, std=True)
    here, there = LocalDenoiser(request), RemoteDenoiser(request)
    try:
        assert there.learned() == UNKNOWN
        began_s = time.perf_counter()
        expected, found = play(here, began_s), play(there, began_s)
        assert len(found) == len(expected) > 75
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.frame, two.frame)
            np.testing.assert_array_equal(one.std, two.std)
            assert one.frame.dtype == two.frame.dtype
            assert one.meta.source_index == two.meta.source_index == 7 * one.meta.number
            assert (one.meta.key, one.meta.number) == (two.meta.key, two.meta.number)
            assert 0 <= one.times.pushed - one.times.received < 60
            assert one.times.latency_s < 60
        assert there.counters == here.counters
        assert there.learned() == here.learned()
        assert there.provenance == here.provenance
        assert there.look_ahead == here.look_ahead
    finally:
        here.close()
        there.close()
    there.close()


def test_mistakes_are_raised_here(bundle: Path, remote: RemoteDenoiser) -> None:
    with pytest.raises(InvalidInput, match="abacus"):
        RemoteDenoiser(DenoiserRequest(str(bundle), backend="abacus"))
    push(remote, frames(1)[0], 5)
    with pytest.raises(InvalidInput, match="numbers must grow"):
        push(remote, frames(1)[0], 5)
    with pytest.raises(DenoiserFailed, match="TypeError"):
        remote._ask({"do": "prepare"}, 5.0)
    # It lives on.
    for number in range(6, 30):
        push(remote, frames(1)[0], number)
    remote.flush()
    assert remote.counters.emitted == 25


@posix
@pytest.mark.parametrize(
    ("by", "words", "patience_s"), [("SIGKILL", "signal 9", 60.0), ("SIGSTOP", "no answer for 1 s", 1.0)]
)
def test_a_process_that_dies_or_hangs_is_said(remote: RemoteDenoiser, by: str, words: str) -> None:
    for number, frame in enumerate(frames(20)):
        push(remote, frame, number)
    known = remote.learned()
    assert known["intensity"]["scale"] > 0
    os.kill(remote.pid, getattr(signal, by))
    began_s = time.perf_counter()
    with pytest.raises(DenoiserLost, match=words):
        push(remote, frames(1)[0], 20)
    assert time.perf_counter() - began_s < 200
    with pytest.raises(DenoiserLost):
        push(remote, frames(1)[0], 21)
    assert remote.learned() == known


SLOW = """
import sys, time
if any("denoisers.process" in word for word in sys.orig_argv):
    from denoscope.runtime.window.window import BoundWindow
    fuse, count = BoundWindow.fuse, 0
    def slow(self, *given):
        global count
        count += 1
        time.sleep(600 if count == HANGS_AT else 0.25)
        return fuse(self, *given)
    BoundWindow.fuse = slow
"""


def slow_denoiser(bundle: Path, folder: Path, patch: pytest.MonkeyPatch, hangs_at: int) -> RemoteDenoiser:
    """A denoiser whose network takes a quarter of a second for a frame, and hangs at one of them."""
    (folder / "sitecustomize.py").write_text(SLOW.replace("HANGS_AT", str(hangs_at)), encoding="utf-8")
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return RemoteDenoiser(DenoiserRequest(str(bundle)), patience_s=1.5)


def test_an_answer_of_many_frames_may_take_longer_than_the_patience_with_one(
    with_std: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = slow_denoiser(with_std, tmp_path, monkeypatch, hangs_at=0)
    try:
        for number, frame in enumerate(frames(SLOTS)):  # held for the noise estimate
            assert push(denoiser, frame, number) == []
        began_s = time.perf_counter()
        outputs = denoiser.flush()
        assert time.perf_counter() - began_s > 1.5
        assert [output.meta.number for output in outputs] == list(range(SLOTS))
        assert denoiser.steps > SLOTS // 2
    finally:
        denoiser.close()


def test_a_network_that_hangs_in_a_long_answer_is_still_ended(
    with_std: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = slow_denoiser(with_std, tmp_path, monkeypatch, hangs_at=4)
    try:
        for number, frame in enumerate(frames(SLOTS)):
            push(denoiser, frame, number)
        began_s = time.perf_counter()
        with pytest.raises(DenoiserLost, match=r"no answer for 1\.5 s"):
            denoiser.flush()
        assert time.perf_counter() - began_s < 200
    finally:
        denoiser.close()


PARENT = """
import sys, time
from denoscope.acquisition.denoisers.local import DenoiserRequest
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
denoiser = RemoteDenoiser(DenoiserRequest(sys.argv[1]))
denoiser.prepare((512, 512), "uint16", 1)
print(denoiser.pid, flush=True)
time.sleep(60)
"""


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that nobody collects has ended all the same.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@posix
def test_nothing_outlives_a_parent_that_is_killed(bundle: Path) -> None:
    shared = Path("/dev/shm")
    before = set(shared.iterdir()) if shared.is_dir() else set()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, bundle], stdout=subprocess.PIPE, env=environment()
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        left = {path.name for path in (set(shared.iterdir()) if shared.is_dir() else set()) - before}
        assert not [name for name in left if "denoscope" in name or name.startswith("psm_")]
        if sys.platform == "linux":
            os.kill(pid, signal.SIGSTOP)  # even one that cannot listen
        parent.kill()
    deadline_s = time.perf_counter() + 250
    while not ended(pid):
        assert time.perf_counter() < deadline_s, f"process {pid} outlives its parent"
        time.sleep(0.05)


def test_shared_memory_grows_and_keeps_to_its_size() -> None:
    slab = Slab()
    with pytest.raises(ValueError, match="do not fit"):
        slab.view(0, (1,), np.uint8)
    slab.grow(1000)
    slab.view(8, (10, 10), np.uint16)[...] = 7
    held = slab.view(8, (10, 10), np.uint16)
    slab.grow(200_000)
    assert slab.nbytes >= 200_000
    assert held.sum() == 700  # an older view stays valid
    with pytest.raises(ValueError, match="do not fit"):
        slab.view(slab.nbytes - 4, (3,), np.uint16)
    slab.close()
    slab.close()


# -- clocks


def plain_times(denoiser: RemoteDenoiser) -> None:
    """Check that times of frames are this process's, in order."""
    for number, frame in enumerate(frames(4)):
        before_s = time.perf_counter()
        for output in push(denoiser, frame, number):
            received_s = output.times.received
            assert received_s == pytest.approx(output.meta.t_received_s, abs=1e-6)
            assert output.meta.t_received_s <= before_s
            assert before_s - 0.01 <= output.times.emitted <= time.perf_counter() + 0.01
    spent = denoiser.times()
    assert len(spent) == 4
    assert all(min(each.hop_to_s, each.hop_back_s) > -0.01 for each in spent)


def test_an_answer_that_is_read_late_is_not_another_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    receive = Child.receive

    def late(child: Child) -> Any:
        message = receive(child)
        time.sleep(0.3)
        return message

    with monkeypatch.context() as patch:
        patch.setattr(Child, "receive", late)
        denoiser = RemoteDenoiser(DenoiserRequest("nothing", look_ahead=1), module="support.nothing")
    try:
        plain_times(denoiser)
    finally:
        denoiser.close()


ANOTHER_CLOCK = """
import sys, time
if "support.nothing" in sys.orig_argv:
    real = time.perf_counter
    time.perf_counter = lambda: real() + 5000
"""


def test_another_clock_is_read_as_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ANOTHER_CLOCK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])]))
    denoiser = RemoteDenoiser(DenoiserRequest("nothing", look_ahead=1), module="support.nothing")
    try:
        plain_times(denoiser)
    finally:
        denoiser.close()


# -- several frames under way


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteDenoiser]:
    """A process that gives each frame back, one frame later."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    denoiser = RemoteDenoiser(
        DenoiserRequest("nothing", look_ahead=1), patience_s=1.0, module="support.nothing"
    )
    denoiser.prepare((24, 32), np.uint16, 1)
    yield denoiser
    denoiser.close()


def begin(denoiser: RemoteDenoiser, pixels: Any, number: int, **more: Any) -> list[Denoised]:
    return denoiser.begin(pixels, FrameMeta(number, time.perf_counter(), KEY, source_index=number), **more)


def all_of(denoiser: RemoteDenoiser) -> list[Denoised]:
    return [output for _ in range(denoiser.under_way) for output in denoiser.collect()]


def test_frames_under_way_come_back_in_order(nothing: RemoteDenoiser) -> None:
    movie, outputs = frames(60), []
    for number, frame in enumerate(movie):
        outputs += begin(nothing, frame, number, skip="late" if number in (20, 21) else None)
        assert nothing.under_way <= IN_FLIGHT
        frame[:] = 0  # the caller's memory is the caller's
        if number % 7 == 0:
            outputs += all_of(nothing)
    larger = frames(5, (48, 64))
    for number, frame in enumerate(larger):  # grows while frames are under way and outputs are held
        outputs += begin(nothing, frame, 60 + number)
    outputs += nothing.flush()
    expected = dict(enumerate([*frames(60), *larger]))
    assert [output.meta.number for output in outputs] == [n for n in range(65) if n not in (19, 20)]
    for output in outputs:  # every one is held until here, so most were copied
        np.testing.assert_array_equal(output.frame, expected[output.meta.number])
    counters = nothing.counters
    assert (counters.received, counters.emitted, counters.in_flight) == (65, 63, 0)
    assert counters.dropped == {"late": 2}
    times = nothing.times()
    assert len(times) == 65
    assert all(min(each.hop_to_s, each.compute_s, each.hop_back_s) >= 0 for each in times)


def test_on_a_gpu_frames_that_wait_are_begun_before_the_last_one_has_come_down(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    movie = frames(40)
    with_gpu = RemoteDenoiser(DenoiserRequest(str(bundle)), module="support.gpu_process")
    local = LocalDenoiser(DenoiserRequest(str(bundle), backend="onnxruntime-cpu", threads=1))
    try:
        with_gpu.prepare((24, 32), np.uint16, 1)
        other, outputs, expected = StreamKey("B"), [], []
        metas = [FrameMeta(n, n / 30, other if n in (12, 13, 27) else KEY) for n in range(len(movie))]
        for frame, meta in zip(movie, metas, strict=True):  # nothing between them, so that frames wait
            outputs += with_gpu.begin(frame, meta)
        outputs += [*all_of(with_gpu), *with_gpu.flush()]
        for frame, meta in zip(movie, metas, strict=True):
            expected += local.push(frame, meta)
        expected += local.flush()
        said = with_gpu.describe()["backend"]["pushes"]
        assert with_gpu.learned()["backend_details"]["pushes"] == said
        counters = with_gpu.counters
    finally:
        with_gpu.close()
        local.close()
    assert (counters.received, counters.emitted, counters.in_flight) == (40, 40, 0)
    for key in (KEY, other):
        found, right = ([o for o in each if o.meta.key == key] for each in (outputs, expected))
        assert [o.meta.number for o in found] == [o.meta.number for o in right]
        for a, b in zip(found, right, strict=True):
            np.testing.assert_array_equal(a.frame, b.frame)
    assert int(said.split(", ")[1].split()[0]) > 0, said


def test_more_outputs_than_fit_come_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    held = 3 * SLOTS
    denoiser = RemoteDenoiser(DenoiserRequest("nothing", look_ahead=held), module="support.nothing")
    try:
        movie = frames(held)
        for number, frame in enumerate(movie):
            begin(denoiser, frame, number)
        for output, frame in zip(denoiser.flush(), movie, strict=True):
            np.testing.assert_array_equal(output.frame, frame)
    finally:
        denoiser.close()


def test_an_output_that_is_held_is_not_overwritten(nothing: RemoteDenoiser) -> None:
    movie = frames(40)
    (first,) = [
        *nothing.push(movie[0], FrameMeta(0, 0.0, KEY)),
        *nothing.push(movie[1], FrameMeta(1, 0.0, KEY)),
    ]
    assert first.frame.base is not None  # it lies in the shared memory
    part = first.frame[2:, ::3]
    del first
    for number in range(2, 40):
        nothing.push(movie[number], FrameMeta(number, 0.0, KEY))
    np.testing.assert_array_equal(part, movie[0][2:, ::3])
    assert len(nothing._held) <= 3  # the others were given back


def test_no_copy_is_made_of_an_output_that_is_let_go(nothing: RemoteDenoiser) -> None:
    owners = set()
    for number, frame in enumerate(frames(40)):
        for output in push(nothing, frame, number):
            owners.add(id(output.frame.base))
            assert not output.frame.flags.owndata
    assert len(owners) <= SLOTS


def test_an_error_is_raised_in_its_turn(bundle: Path, remote: RemoteDenoiser) -> None:
    movie = frames(30)
    for number in range(20):
        push(remote, movie[number], number)
    begin(remote, movie[20], 20)
    begin(remote, movie[20], 20)  # numbers must grow
    begin(remote, movie[21], 21)
    (output,) = remote.collect()
    with pytest.raises(InvalidInput, match="numbers must grow"):
        remote.collect()
    (following,) = remote.collect()
    assert (output.meta.number, following.meta.number) == (17, 18)
    assert remote.counters.received == 22


@posix
@pytest.mark.parametrize(("by", "words"), [("SIGKILL", "signal 9"), ("SIGSTOP", "no answer for 1 s")])
def test_a_process_that_dies_with_frames_under_way(nothing: RemoteDenoiser, by: str, words: str) -> None:
    movie = frames(20)
    for number in range(10):
        push(nothing, movie[number], number)
    os.kill(nothing.pid, getattr(signal, by))
    with pytest.raises(DenoiserLost, match=words):  # noqa: PT012  whichever call meets it
        for number in range(10, 20):
            begin(nothing, movie[number], number)
    assert nothing.counters.emitted == 9
    with pytest.raises(DenoiserLost):
        push(nothing, movie[0], 20)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_process_asks_for_large_pages(nothing: RemoteDenoiser) -> None:
    assert b"glibc.malloc.hugetlb" in Path(f"/proc/{nothing.pid}/environ").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_shared_memory_cannot_be_taken_away(nothing: RemoteDenoiser) -> None:
    (number,) = nothing._slab.descriptors
    path = Path(f"/proc/{nothing.pid}/fd/{number}")
    with pytest.raises(PermissionError):  # it would end both processes: SIGBUS
        os.truncate(path, 0)
    assert len([*push(nothing, frames(1)[0], 0), *push(nothing, frames(1)[0], 1)]) == 1


def test_the_way_to_the_process_and_back_is_measured(nothing: RemoteDenoiser) -> None:
    lane = DenoiseLane(nothing, Kept(frames(16)), look_ahead=1, queue_frames=64, lag_s=60.0, finish_s=20.0)
    lane.start()
    for number in range(40):
        lane.offer(number, Frame(frames(16)[number % 16], number, time.perf_counter(), "A", {}))
        time.sleep(0.005)
    lane.finish()
    spent = {stage: histogram.quantiles_s() for stage, histogram in lane.tally.stages.items()}
    assert all(quantiles["p50"] > 0 for quantiles in spent.values())
    whole_s = lane.tally.latency.quantiles_s()["mean"]
    assert sum(q["mean"] for stage, q in spent.items() if stage != "deliver") < whole_s
    words = summary(
        SessionReport(
            timing=Timing(
                latency_p50_s=0.1,
                latency_p99_s=0.2,
                stages={"queue": {"p50_s": 0.06, "p99_s": 0.1}},  # type: ignore[dict-item]
            )
        )
    )
    assert "60 because the denoiser was busy, 40 computing" in words


class Kept:
    """A sink that keeps the indices of what it was given, and looks at the pixels."""

    def __init__(self, movie: Any) -> None:
        self.movie = movie
        self.indices: list[int] = []

    def append(self, output: Denoised, stamp: Stamp) -> None:
        np.testing.assert_array_equal(output.frame, self.movie[stamp.index % len(self.movie)])
        self.indices.append(stamp.index)


@pytest.mark.parametrize("ends", [False, pytest.param(True, marks=posix)])
def test_a_lane_that_is_behind_counts_every_frame(nothing: RemoteDenoiser, ends: bool) -> None:
    movie = frames(16)
    sink = Kept(movie)
    lane = DenoiseLane(nothing, sink, look_ahead=1, queue_frames=700, lag_s=60.0, finish_s=20.0)
    for number in range(300):  # all wait before the first is taken
        lane.offer(number, Frame(movie[number % 16], number, time.perf_counter(), "A", {}))
    if ends:
        real = sink.append

        def append(output: Denoised, stamp: Stamp) -> None:
            real(output, stamp)
            if stamp.index == 100:
                os.kill(nothing.pid, signal.SIGKILL)

        sink.append = append  # type: ignore[method-assign]
    lane.start()
    lane.finish()
    emitted, dropped = lane.counts()
    assert sink.indices == list(range(emitted))  # in order, none twice
    if not ends:
        assert (emitted, dict(dropped)) == (300, {})
        assert nothing.counters.in_flight == 0
        return
    assert lane.problem is not None
    assert "signal 9" in lane.problem
    assert 101 <= emitted <= 101 + IN_FLIGHT
    assert dict(dropped) == {"denoiser failed": 300 - emitted}
