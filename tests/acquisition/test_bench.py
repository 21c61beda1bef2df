from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquisition.conftest import environment
from denoscope.acquisition import OutputExists
from denoscope.acquisition.bench import play as play_module
from denoscope.acquisition.bench import run as run_module
from denoscope.acquisition.bench.against import compare
from denoscope.acquisition.bench.cases import Case, parse_size, plan_cases
from denoscope.acquisition.bench.play import DELIVERED, WORK, Plan, Timeline, play
from denoscope.acquisition.bench.provenance import git_commit, provenance
from denoscope.acquisition.bench.results import (
    IN_PROCESS,
    OWN_PROCESS,
    Benchmark,
    CaseResult,
    CaseTimes,
    MeasuredCase,
    Percentiles,
)
from denoscope.acquisition.bench.run import bench
from denoscope.acquisition.bench.scene import POOL, make_scene
from denoscope.acquisition.bench.statistics import STAGES, percentiles, summarise
from denoscope.acquisition.bench.sustained import Trial, highest_rate, judge
from denoscope.acquisition.bench.worker import run_case
from denoscope.acquisition.processes.memory import peak_bytes, resident_bytes
from denoscope.runtime import BackendUnavailable, InvalidInput, Stream, estimate_intensity
from support.patience import tried_again
from support.wrapped_backends import WrappedBackend

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SHAPE = (40, 48)


class StallingBackend(WrappedBackend):
    """Stands still once, for so long, before one `fuse`."""

    def __init__(self, at: int, seconds: float) -> None:
        super().__init__(fuse_delay_s=0.0)
        self._at, self._seconds = at, seconds

    def before(self, kind: str) -> None:
        self._delay = self._seconds if kind == "fuse" and self.runs["fuse"] == self._at else 0.0
        super().before(kind)


def played(bundle: Path, backend: WrappedBackend, plan: Plan, look_ahead: int = 2) -> Timeline:
    scene = make_scene(SHAPE)
    with Stream(bundle, backend, look_ahead=look_ahead, intensity=scene.intensity, align=False) as stream:
        stream.prepare(SHAPE)
        return play(stream, scene, plan)


def assert_accounts(timeline: Timeline) -> None:
    outcomes = Counter(timeline.outcome)
    assert sum(outcomes.values()) == timeline.plan.total
    delivered = outcomes.pop(DELIVERED, 0)
    assert delivered == np.count_nonzero(~np.isnan(timeline.delivered))
    assert dict(outcomes) == dict(timeline.dropped), "the lane counts what the timeline shows"
    summary = summarise(timeline).as_json()
    measured = summary["frames"]["measured"]
    assert measured["arrived"] == timeline.plan.measured
    assert measured["delivered"] + sum(measured["dropped"].values()) == measured["arrived"]
    assert summary["frames"]["samples"] == measured["delivered"]


# Percentiles and summaries, by hand.


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (range(1, 1001), [500, 950, 990, 999, 1000]),
        (range(1, 11), [5, 10, 10, 10, 10]),
        ([7.0], [7, 7, 7, 7, 7]),
        ([3.0, 1.0, 2.0], [2, 3, 3, 3, 3]),
        ([1.0] * 98 + [np.inf] * 2, [1, 1, None, None, None]),
        ([], [None] * 5),
    ],
)
def test_percentiles_are_samples_of_that_rank(samples: Any, expected: list[float | None]) -> None:
    assert list(percentiles(list(samples)).as_json().values()) == expected


def made(outcomes: list[str], *, fps: float = 10.0, look_ahead: int = 1, warm_up: int = 1) -> Timeline:
    """Frame i: clock 1 ms, queue i ms, encode 2, wait 100, fuse 4, convert 1, deliver 1 ms."""
    count = len(outcomes)
    plan = Plan(fps, warm_up, count - warm_up - look_ahead, look_ahead)
    scheduled = np.arange(count) / fps
    came = np.asarray([outcome == DELIVERED for outcome in outcomes])
    durations = np.asarray([[1.0, i, 2.0, 100.0, 4.0, 1.0, 1.0] for i in range(count)]).T * 1e-3
    times = scheduled + np.cumsum(durations, axis=0)
    times[2:, ~came] = np.nan
    work = {name: np.full(count, 0.001 * (place + 1)) for place, name in enumerate(WORK)}
    dropped = Counter(outcome for outcome in outcomes if outcome != DELIVERED)
    return Timeline(plan, look_ahead, scheduled, *times, tuple(outcomes), work, dropped)


def test_a_hand_made_timeline() -> None:
    timeline = made([DELIVERED] * 12)
    summary = summarise(timeline).as_json()
    # Measured are the frames 1 to 10, which take 109 ms and i ms of waiting.
    assert summary["latency"]["p50_s"] == pytest.approx(0.109 + 0.005)
    assert summary["latency"]["max_s"] == pytest.approx(0.109 + 0.010)
    assert summary["beyond_look_ahead"]["p50_s"] == pytest.approx(0.009 + 0.005)
    assert summary["stages"]["queue"]["p95_s"] == pytest.approx(0.010)
    assert {name: summary["stages"][name]["p99_s"] for name in STAGES if name != "queue"} == pytest.approx(
        {"clock": 0.001, "encode": 0.002, "wait": 0.1, "fuse": 0.004, "convert": 0.001, "deliver": 0.001}
    )
    assert summary["push"]["motion"]["p50_s"] == pytest.approx(0.004)
    assert summary["push"]["own"]["p50_s"] == pytest.approx(0.008)
    assert summary["busy"] == pytest.approx(0.009 * 10)
    assert summary["warm_up_latency"]["max_s"] == pytest.approx(0.109)
    assert summary["clock_late_max_s"] == pytest.approx(0.001)
    assert_accounts(timeline)


def test_dropped_frames_are_counted_as_never_delivered() -> None:
    timeline = made([DELIVERED, *[DELIVERED] * 6, "keep-up", "keep-up", "overrun", DELIVERED, DELIVERED])
    summary = summarise(timeline).as_json()
    assert summary["frames"]["measured"] == {
        "arrived": 10,
        "delivered": 7,
        "dropped": {"keep-up": 2, "overrun": 1},
    }
    assert summary["latency"]["max_s"] == pytest.approx(0.109 + 0.010)
    assert summary["latency_with_drops"]["p50_s"] == pytest.approx(0.109 + 0.005)
    assert summary["latency_with_drops"]["p95_s"] is None
    assert_accounts(timeline)


def test_skipped_outputs_do_not_make_a_push_look_cheap() -> None:
    timeline = made([DELIVERED] * 12)
    timeline.work["fuse"][4:9] = 0.0
    timeline.work["total"][4:9] = 0.001
    summary = summarise(timeline).as_json()
    assert summary["push"]["total"]["p50_s"] == pytest.approx(0.009)
    assert summary["busy"] == pytest.approx((5 * 0.009 + 5 * 0.001) / 10 * 10)


def test_a_growing_queue_is_not_sustained() -> None:
    assert judge(made([DELIVERED] * 12)).sustained
    # At 1000 frames/s the last frames wait for about ten intervals.
    assert not judge(made([DELIVERED] * 12, fps=1000)).sustained
    assert not judge(made([*[DELIVERED] * 11, "keep-up"])).sustained


@pytest.mark.parametrize("capacity", [3.0, 137.0, 4000.0])
@pytest.mark.parametrize("guess", [90.0, 200.0])
def test_the_bisection_brackets_the_capacity(capacity: float, guess: float) -> None:
    found = highest_rate(lambda fps: Trial(fps, 50, 0 if fps <= capacity else 3, 0.0), guess)
    assert len(found.trials) <= 10
    assert all(trial.sustained == (trial.fps <= capacity) for trial in found.trials)
    assert found.fps is None or found.fps <= capacity
    assert found.failed_fps is None or found.failed_fps > capacity
    if capacity == 137.0:
        assert found.fps is not None
        assert capacity / 1.05 <= found.fps
    assert highest_rate(lambda fps: Trial(fps, 50, 1, 0.0), guess).fps is None
    assert highest_rate(lambda fps: Trial(fps, 50, 0, 0.0), guess).failed_fps is None


# The camera, the lane and the stream, played.


@tried_again
def test_the_clock_never_waits_for_the_denoiser(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # However late a busy computer makes them, all frames are delivered.
    patient = {"queue_frames": 1000, "lag_s": 250.0, "finish_s": 250.0}
    monkeypatch.setattr(play_module, "KEEP_UP", play_module.KEEP_UP.model_copy(update=patient))
    stall_s, fps = 0.4, 100.0
    stalled = 12
    timeline = played(bundle, StallingBackend(stalled + 1, stall_s), Plan(fps, 0, 60, 2))
    assert set(timeline.outcome) == {DELIVERED}
    assert np.diff(timeline.scheduled) == pytest.approx(1 / fps)
    assert np.all(timeline.offered >= timeline.scheduled), "no frame comes early"
    assert timeline.fused[stalled] - timeline.fuse_start[stalled] >= stall_s
    during = (timeline.scheduled > timeline.fuse_start[stalled]) & (
        timeline.scheduled < timeline.fused[stalled]
    )
    assert during.sum() >= 0.9 * stall_s * fps - 1, "frames were due while the denoiser stood still"
    meanwhile = timeline.offered[during] < timeline.fused[stalled]
    assert meanwhile.mean() > 0.5, "they were handed over while it stood still"
    # Each of them is charged from when it was due, not from when the denoiser took it.
    latency = timeline.delivered - timeline.scheduled
    assert np.all(timeline.delivered[during] >= timeline.fused[stalled])
    assert np.all(latency[during] >= timeline.fused[stalled] - timeline.scheduled[during])
    assert np.count_nonzero(latency > stall_s / 2) >= 15, "the stall is in many latencies, not in one"
    assert_accounts(timeline)


@tried_again
def test_stages_add_up_to_the_latency(bundle: Path) -> None:
    timeline = played(bundle, WrappedBackend(), Plan(200.0, 4, 30, 2))
    summary = summarise(timeline).as_json()
    assert summary["frames"]["all"] == {"arrived": 36, "delivered": 36, "dropped": {}}
    steps = (
        timeline.scheduled,
        timeline.offered,
        timeline.taken,
        timeline.encoded,
        timeline.fuse_start,
        timeline.fused,
        timeline.emitted,
        timeline.delivered,
    )
    assert all(np.all(np.diff(pair, axis=0) >= -1e-9) for pair in pairwise(steps))
    backend = sum(timeline.work[name] for name in ("encode", "fuse", "remember"))
    assert np.allclose(timeline.work["own"] + backend, timeline.work["total"])
    assert_accounts(timeline)


def test_every_drop_of_a_slow_denoiser_is_counted(bundle: Path) -> None:
    timeline = played(bundle, WrappedBackend(fuse_delay_s=0.03), Plan(150.0, 0, 200, 2))
    assert timeline.problem is None
    assert sum(timeline.dropped.values()) > 0
    assert set(timeline.dropped) <= {"keep-up", "overrun", "end of session"}
    assert not judge(timeline).sustained
    assert_accounts(timeline)


def test_frames_after_a_failure_are_counted_too(bundle: Path) -> None:
    timeline = played(bundle, WrappedBackend(fail_at=5), Plan(200.0, 0, 20, 2))
    assert timeline.problem is not None
    assert "the device was lost" in timeline.problem
    assert set(timeline.outcome) == {DELIVERED, "denoiser failed"}
    assert_accounts(timeline)


def test_one_stream_plays_again_and_again(bundle: Path) -> None:
    scene = make_scene(SHAPE)
    with Stream(
        bundle, WrappedBackend(fuse_delay_s=0.03), look_ahead=1, intensity=scene.intensity, align=False
    ) as stream:
        stream.prepare(SHAPE)
        for fps in (150.0, 20.0, 150.0):
            assert_accounts(play(stream, scene, Plan(fps, 0, 120 if fps > 100 else 10, 1)))


def test_the_scene_is_a_movie_of_known_noise() -> None:
    scene = make_scene((256, 192))
    assert scene.frames.shape == (POOL, 256, 192)
    assert scene.frames.dtype == np.uint16
    assert not any(np.array_equal(scene.frames[0], frame) for frame in scene.frames[1:])
    assert np.array_equal(scene.frames, make_scene((256, 192)).frames)
    found = estimate_intensity(np.concatenate([scene.frames, make_scene((256, 192)).frames]))
    assert scene.intensity.gain == pytest.approx(found.gain, rel=0.15)
    assert scene.intensity.scale == pytest.approx(found.scale, rel=0.1)
    assert scene.intensity.offset == pytest.approx(found.offset, abs=0.2 * found.scale)


# Cases, files and the shell.


def case_of(source: Path, **changes: Any) -> Case:
    cases, _ = plan_cases([source], ["onnxruntime-cpu"], ["40x48"], [1], fps=200, frames=20, in_process=True)
    return cases[0].model_copy(update=changes)


@tried_again
def test_a_case_with_a_given_backend(bundle: Path) -> None:
    measured, times = run_case(case_of(bundle, highest_rate=False), WrappedBackend())
    result, timeline = measured.as_json(), times.as_json()
    assert result["problem"] is None
    assert result["sustained"] is None
    assert result["frames"]["measured"] == {"arrived": 20, "delivered": 20, "dropped": {}}
    startup = result["startup"]
    assert startup["total_s"] == pytest.approx(sum(v for n, v in startup.items() if n != "total_s"))
    total = timeline["warm_up_frames"] + timeline["measured_frames"] + timeline["tail_frames"]
    lists = [value for value in timeline.values() if isinstance(value, list)]
    assert all(len(value) == total for value in lists)
    json.dumps(result)


@tried_again
def test_a_case_takes_the_way_of_a_session(bundle: Path) -> None:
    measured, _ = run_case(case_of(bundle, in_process=False, highest_rate=False))
    result = measured.as_json()
    assert result["problem"] is None
    assert result["boundary"] == OWN_PROCESS
    assert result["frames"]["all"]["delivered"] == result["frames"]["all"]["arrived"]
    assert "threads" in result["backend"]
    hops = {name: found["p50_s"] for name, found in result["hops"].items()}
    assert all(hops.values())
    assert hops["hop"] < 60
    assert result["push"]["fuse"]["p50_s"] > 0
    assert result["push"]["total"]["p50_s"] <= hops["compute"] * 1.5
    here, _ = run_case(case_of(bundle, highest_rate=False))
    assert (here.boundary, here.hops) == (IN_PROCESS, {})
    differences = compare(report_of([measured]), report_of([here]), "old.json").differences
    assert any("in the measuring process then" in each for each in differences)


def test_cases_are_all_combinations(bundle: Path) -> None:
    cases, left_out = plan_cases([bundle], [], ["40x48", "32X32"], [0, 2], fps=30, frames=5)
    backends = {case.backend for case in cases}
    assert len(cases) == len(backends) * 4
    assert len({case.label for case in cases}) == len(cases)
    assert not backends & set(left_out)
    own, _ = plan_cases([bundle], ["auto", "auto"], ["40x48"], [], fps=30, frames=5)
    assert [case.look_ahead for case in own] == [3]


@pytest.mark.parametrize("text", ["512", "512x", "axb", "512x512x2", "-5x5"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a size"):
        parse_size(text)


def test_a_result_names_the_bundle_without_its_folder(bundle: Path) -> None:
    case = case_of(bundle, bundle=str(bundle.absolute()))
    stored = case.model_dump(mode="json")
    assert stored["bundle"] == bundle.name
    assert Case.model_validate(stored) == case != case_of(bundle, look_ahead=0)
    assert len({case, Case.model_validate(stored)}) == 1


def test_a_backend_that_cannot_run_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.runtime.backends.onnxruntime import OnnxRuntimeCpu

    monkeypatch.setattr(OnnxRuntimeCpu, "unavailable", classmethod(lambda _: "it was taken away"))
    with pytest.raises(BackendUnavailable, match="taken away"):
        plan_cases([bundle], ["onnxruntime-cpu"], ["40x48"], [], fps=30, frames=5)


def test_memory_and_provenance(tmp_path: Path) -> None:
    resident, peak = resident_bytes(), peak_bytes()
    assert (resident is None) == (peak is None)
    assert resident is None or (peak is not None and 0 < resident <= peak * 1.01)
    where = provenance()
    assert where.cpu
    assert where.packages["numpy"] == np.__version__
    (tmp_path / "a.txt").touch()
    assert git_commit(tmp_path / "a.txt") is None
    json.dumps(where.as_json())


def report_of(results: Sequence[CaseResult], cpu: str = "one") -> Benchmark:
    return Benchmark.model_validate({"bench_schema": 1, "provenance": {"cpu": cpu}, "cases": list(results)})


def test_two_runs_as_ratios(bundle: Path) -> None:
    case = case_of(bundle)
    quiet = {"p50_s": 0.010, "p95_s": 0.02, "p99_s": 0.04, "p99_9_s": 0.0, "max_s": 0.05}
    loud = {"p50_s": 0.015, "p95_s": 0.02, "p99_s": 0.02, "p99_9_s": 0.3, "max_s": None}

    def result(latency: dict[str, float | None], fps: float) -> MeasuredCase:
        return MeasuredCase.model_validate(
            {"case": case, "label": "a", "latency": latency, "sustained": {"fps": fps}}
        )

    other = CaseResult(case=case.model_copy(update={"height": 64}), label="b")
    old, new = report_of([result(quiet, 50.0)]), report_of([result(loud, 100.0), other], cpu="another")
    found = compare(new, old, "old.json")
    ratios = found.cases[0].ratios
    assert {n: r for n, r in ratios.items() if r is not None} == pytest.approx(
        {"latency_p50": 1.5, "latency_p95": 1.0, "latency_p99": 0.5, "sustained_fps": 2.0}
    )
    assert ratios["latency_p99_9"] is None
    assert (found.only_here, found.only_there) == (["b"], [])
    assert found.differences == ["cpu: one then, another now"]


def test_a_report_comes_back_from_its_file(bundle: Path) -> None:
    measured = MeasuredCase(case=case_of(bundle), label="a", latency=Percentiles(p50_s=0.01))
    report = report_of([measured, CaseResult(case=case_of(bundle), label="b", problem="it was not run")])
    again = Benchmark.model_validate_json(json.dumps(report.as_json()))
    assert again == report
    assert [type(each) for each in again.cases] == [MeasuredCase, CaseResult]
    # A case that was not measured has no numbers in the file, as in files of earlier versions.
    assert set(report.as_json()["cases"][1]) == {"label", "case", "problem", "load_average_1min_before"}


def test_a_case_that_cannot_be_run_is_reported(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    report = bench([case_of(bundle, bundle=str(tmp_path / "gone.denoscope"))], tmp_path / "run")
    assert "gone.denoscope" in str(report.cases[0].problem)
    assert "gone.denoscope" in (tmp_path / "run" / "bench.md").read_text(encoding="utf-8")
    assert not (tmp_path / "run" / "bench.png").exists()


def test_a_computer_that_stood_still_is_said(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarise(made([DELIVERED] * 12)).model_copy(update={"clock_late_max_s": 17.45})
    late = MeasuredCase(**dict(summary), case=case_of(bundle), label="a")
    monkeypatch.setattr(run_module, "_measure", lambda _: (late, None))
    report = bench([case_of(bundle)], tmp_path / "run")
    assert any("up to 17.45 s late" in note for note in report.notes)


def test_an_interrupted_run_keeps_its_cases(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = case_of(bundle), case_of(bundle, look_ahead=0)

    def measure(case: Case) -> tuple[CaseResult, CaseTimes | None]:
        if case == second:
            raise KeyboardInterrupt
        return CaseResult(case=case, label=case.label, problem="it was not run"), None

    monkeypatch.setattr(run_module, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench([first, second], tmp_path / "run")
    report = json.loads((tmp_path / "run" / "bench.json").read_text(encoding="utf-8"))
    assert [case["label"] for case in report["cases"]] == [first.label]
    assert any("interrupted after 1 of 2" in note for note in report["notes"])


def test_a_run_that_is_killed_keeps_the_cases_before(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, run = (
        [case_of(bundle), case_of(bundle, look_ahead=0), case_of(bundle, look_ahead=2)],
        tmp_path / "run",
    )

    def measure(case: Case) -> tuple[CaseResult, CaseTimes | None]:
        if case == cases[2]:
            raise SystemExit  # what is behind it is not reached, as after kill -9
        return CaseResult(case=case, label=case.label, problem="it was not run"), None

    monkeypatch.setattr(run_module, "_measure", measure)
    with pytest.raises(SystemExit):
        bench(cases, run)
    report = json.loads((run / "bench.json").read_text(encoding="utf-8"))
    assert [case["label"] for case in report["cases"]] == [case.label for case in cases[:2]]
    assert report["notes"][-1] == "stopped after 2 of 3 cases, which are all there is"
    assert {path.name for path in run.iterdir()} == {"bench.json", "timelines.json", "bench.md"}
    with pytest.raises(OutputExists, match="`overwrite` to replace it"):
        bench(cases[:1], run)
    assert len(bench(cases[:1], run, overwrite=True).cases) == 1


def test_a_benchmark_goes_on_where_it_was_interrupted(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, run = [case_of(bundle, look_ahead=frames) for frames in (1, 0, 2)], tmp_path / "run"
    measured: list[int] = []
    problems, stop = {0: "busy"}, {2}

    def measure(case: Case) -> tuple[CaseResult, CaseTimes | None]:
        if case.look_ahead in stop:
            raise KeyboardInterrupt
        measured.append(case.look_ahead)
        return CaseResult(case=case, label=case.label, problem=problems.get(case.look_ahead)), None

    monkeypatch.setattr(run_module, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench(cases, run, resume=True)  # there is nothing to resume, so it begins
    before = json.loads((run / "bench.json").read_text(encoding="utf-8"))
    for given in (problems, stop, measured):
        given.clear()
    report = bench(cases, run, resume=True)
    assert measured == [0, 2], "the case with a problem is measured again, the good one is not"
    assert [result.case for result in report.cases] == cases
    assert report.provenance.as_json() == before["provenance"]
    (note,) = (note for note in report.notes if "bench.png" not in note)
    assert note.startswith("resumed after 1 of 3 cases; ")
    assert [each["label"] for each in json.loads((run / "timelines.json").read_text(encoding="utf-8"))] == [
        case.label for case in cases
    ]
    measured.clear()
    assert bench(cases, run, resume=True).cases == report.cases
    assert not measured


def test_another_benchmark_is_not_resumed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, run = case_of(bundle), tmp_path / "run"
    monkeypatch.setattr(run_module, "_measure", lambda case: (CaseResult(case=case, label=case.label), None))
    bench([case], run)
    written = (run / "bench.json").read_bytes()
    with pytest.raises(OutputExists, match="add `resume` to go on with it"):
        bench([case], run)
    with pytest.raises(InvalidInput, match="give one of the two"):
        bench([case], run, resume=True, overwrite=True)
    with pytest.raises(InvalidInput, match="other values"):
        bench([case.model_copy(update={"fps": 31.0})], run, resume=True)
    later = provenance().model_copy(update={"packages": {"numpy": "99"}})
    monkeypatch.setattr(run_module, "provenance", lambda: later)
    with pytest.raises(InvalidInput, match=r"other versions .*99"):
        bench([case], run, resume=True)
    assert (run / "bench.json").read_bytes() == written


def test_the_command_says_what_an_interruption_keeps(
    denoscope: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case) -> tuple[CaseResult, CaseTimes | None]:
        if case.look_ahead == (0 if tmp_path.joinpath("none").exists() else 1):
            raise KeyboardInterrupt
        return CaseResult(case=case, label=case.label, problem="it was not run"), None

    monkeypatch.setattr(run_module, "_measure", measure)
    words = (
        "bench",
        "--bundle",
        bundle,
        "--backend",
        "onnxruntime-cpu",
        "--size",
        "40x48",
        "--look-ahead",
        0,
    )
    run = denoscope(*words, "--look-ahead", 1, "--output", tmp_path / "some")
    assert run.returncode == 130
    assert (
        run.stderr
        == f"denoscope: interrupted; {tmp_path / 'some' / 'bench.json'} holds 1 case; add --resume to go on\n"
    )
    (tmp_path / "none").touch()
    run = denoscope(*words, "--output", tmp_path / "nothing")
    assert (run.returncode, run.stderr) == (130, "denoscope: interrupted; nothing was measured\n")
    assert not (tmp_path / "nothing" / "bench.json").exists()


@pytest.mark.slow
def test_the_command_from_end_to_end(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'report'")
    words = ("bench", "--bundle", bundle, "--backend", "onnxruntime-cpu", "--size", "40x48")
    first = tmp_path / "first"
    run = denoscope(
        *words, "--look-ahead", 1, "--frames", 20, "--fps", 200, "--output", first, "--json", "--quiet"
    )
    assert run.returncode == 0, run
    report = json.loads(run.stdout)
    assert report == json.loads((first / "bench.json").read_text(encoding="utf-8"))
    assert {path.name for path in first.iterdir()} == {
        "bench.json",
        "timelines.json",
        "bench.md",
        "bench.png",
    }
    result = report["cases"][0]
    measured = result["frames"]["measured"]
    assert measured["arrived"] == measured["delivered"] + sum(measured["dropped"].values()) == 20
    trials = result["sustained"]["trials"]
    kept = [trial["fps"] for trial in trials if trial["sustained"]]
    assert result["sustained"]["fps"] == (max(kept) if kept else None)
    assert len(result["case"]["bundle_sha256"]) == 64
    assert result["memory"]["peak_bytes"] is None or result["memory"]["peak_bytes"] > 0
    assert (first / "bench.png").read_bytes().startswith(b"\x89PNG")
    second = tmp_path / "second"
    rerun = denoscope(
        *words,
        *("--look-ahead", 0, "--look-ahead", 1, "--frames", 20, "--fps", 200, "--no-highest-rate"),
        *("--against", first, "--output", second),
    )
    assert rerun.returncode == 0, rerun
    comparison = json.loads((second / "bench.json").read_text(encoding="utf-8"))["comparison"]
    assert [case["label"] for case in comparison["cases"]] == [result["label"]]
    assert comparison["cases"][0]["ratios"]["latency_p50"] > 0
    assert len(comparison["only_here"]) == 1
    assert "This run / " in (second / "bench.md").read_text(encoding="utf-8")
    again = denoscope(*words, "--output", second)
    assert again.returncode == 2
    assert "exists: name another --output, or add --resume to go on with it, or --overwrite" in again.stderr


REFUSED = {
    "size": (["--size", "big"], "--size big"),
    "tiny frames": (["--size", "8x8"], "--size 8"),
    "no frames": (["--frames", "0"], "--frames 0"),
    "no rate": (["--fps", "0"], "--fps 0"),
    "no threads": (["--threads", "0"], "--threads 0"),
    "look-ahead": (["--look-ahead", "9"], "look-ahead of 9"),
    "backend": (["--backend", "abacus"], "abacus"),
    "against nothing": (["--against", "none.json"], "none.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence(denoscope: Run, bundle: Path, tmp_path: Path, case: str) -> None:
    arguments, word = REFUSED[case]
    run = denoscope("bench", "--bundle", bundle, "--output", tmp_path / "run", *arguments)
    assert run.returncode == 2, run
    assert "Traceback" not in run.stdout + run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert word in run.stderr
    assert not (tmp_path / "run").exists()
