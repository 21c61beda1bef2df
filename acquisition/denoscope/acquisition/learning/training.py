"""A bundle from the user's own noisy movies."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from denoscope.acquisition.denoisers.converting import load_camera
from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.extras import require
from denoscope.acquisition.notes.alternation import alternation_note
from denoscope.acquisition.raw.in_the_way import refuse_name
from denoscope.acquisition.sources.part import PartChoice

from .results import CameraMaps, TrainingResult

if TYPE_CHECKING:
    from torch import Tensor

    from denoscope.runtime import Bundle, CameraCalibration
    from denoscope.train import FitPlan, FitProgress, FitResult, FitSettings, TrainingMovie
    from denoscope.train.fit_settings import Precision
    from denoscope.train.fitting.methods import Method

__all__ = ["TrainingInterrupted", "TrainingListener", "TrainingPlan", "train_bundle"]

MethodName = Literal["live", "sts-uvd", "umvd"]
SizeName = Literal["fast", "standard", "hq"]
PrecisionName = Literal["auto", "32", "bf16-mixed", "16-mixed"]

_DEFAULT_MINUTES = 2.0
# Time after the last step in units of a step of `live`: calibration and export, then the report, which denoises the
# end of the first movie. Measured on 80 frames of 128 x 128 pixels: 2 and 42.
_EXPORT_STEPS, _REPORT_STEPS, _REPORT_STEPS_PER_MPX = 5, 20, 20
_REPORT_FRAMES, _REPORT_EDGE = 80, 512


@dataclass(frozen=True)
class TrainingPlan:
    """Time of a training, known before its first step.

    Attributes
    ----------
    method, began_from, device
        Method, parent and device in words.
    steps, step_s, training_s
        Steps, seconds of one, and seconds of all.
    finishing_s
        Seconds afterwards: calibration, export, checks and report.
    batch, crop, precision
        Windows a step, their edge in pixels, and the arithmetic of the convolutions.
    memory_bytes
        Memory beside the program and the movies.
    """

    method: str
    began_from: str
    device: str
    steps: int
    step_s: float
    training_s: float
    finishing_s: float
    batch: int
    crop: int
    precision: str
    memory_bytes: int


class TrainingListener:
    """Follow a training; every method does nothing unless it is overridden."""

    def read(self, movie: TrainingMovie) -> None:
        """Take a movie that was read, with its noise model."""

    def noted(self, sentence: str) -> None:
        """Take something that the user should know."""

    def warned(self, sentence: str) -> None:
        """Take something that the user should look into."""

    def planned(self, plan: TrainingPlan) -> None:
        """Take what the training will take; called once before the first step."""

    def progressed(self, progress: FitProgress) -> None:
        """Take the progress, about once a second."""

    def finishing(self, stage: str) -> None:
        """Take the name of a stage after the last step: ``export`` or ``report``."""

    def checked(self, share: float) -> None:
        """Take the share, 0 to 1, of the stage ``report`` that is done."""


class TrainingInterrupted(KeyboardInterrupt):
    """A training was interrupted.

    Attributes
    ----------
    resumable
        Whether a checkpoint was kept, so that the same call with `resume` goes on from it.
    """

    def __init__(self, *, resumable: bool) -> None:
        super().__init__()
        self.resumable = resumable

    def __str__(self) -> str:
        if self.resumable:
            return "interrupted: the same command with `resume` goes on from the last checkpoint"
        return "interrupted: nothing was kept"


def train_bundle(
    movies: Sequence[Path | str],
    output: Path | str,
    *,
    method: MethodName | None = None,
    size: SizeName | None = None,
    window: int | None = None,
    guided: bool = False,
    one_photon: bool = False,
    start: str | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    frames: slice = slice(None),
    channel: int | str | None = None,
    plane: int | str | None = None,
    position: int | str | None = None,
    interleaved: int | None = None,
    axes: str | None = None,
    camera_gain: Path | str | None = None,
    camera_offset: Path | str | None = None,
    camera_roi: str | None = None,
    simulated: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    precision: PrecisionName = "auto",
    devices: int = 1,
    log: Path | str | None = None,
    listener: TrainingListener | None = None,
) -> TrainingResult:
    """Train a bundle on noisy movies, as ``denoscope train`` does; no clean movie is needed.

    The last 15 % of every movie are held out. If training does not help on them, the bundle holds the weights that it
    began with.

    Parameters
    ----------
    movies
        Files of ``(T, H, W)`` counts, 10 frames and 32 pixels each way or more.
    output
        Bundle folder to write, ``NAME.denoscope``; ``NAME-report.html`` and ``NAME-training.csv`` are written
        beside it.
    method
        ``live``, ``sts-uvd`` or ``umvd``; None for that of `start`, else ``live``.
    size
        Size of a ``live`` network that starts from nothing: ``fast``, ``standard`` or ``hq``.
    window
        Frames that one output sees, odd; starts from nothing.
    guided
        Warp neighbours along the motion, in a ``live`` network that starts from nothing.
    one_photon
        With the method ``umvd``: remove the background of a one-photon movie and amplify the neurons' response.
    start
        Bundle to begin with (name or folder), or ``nothing``. None for the shipped ``live`` where the method is
        ``live`` and no shape is given, else ``nothing``.
    minutes, epochs, steps
        Length of the training; at most one of them. None of them: 2 minutes. An epoch has 200 steps.
    frames
        Part of every movie to train on.
    channel, plane, position, interleaved, axes
        Choice in files of several movies, see `denoscope.runtime.open_movie`.
    camera_gain, camera_offset
        Maps of the camera's gain (counts per photo-electron) and offset (counts): ``.mat``, ``.tif``,
        ``.npy``, ``.npz``.
    camera_roi
        Region ``"x,y,width,height"`` of the maps, in pixels, that the frames show.
    simulated
        Number of simulated movies to learn from as well.
    resume
        Go on with an interrupted training of this output.
    overwrite
        Replace the bundle, report and CSV of an earlier training.
    seed
        Seed of every random choice.
    precision
        Arithmetic of the convolutions. ``auto`` is ``bf16-mixed`` for `minutes` on a processor that computes in
        bfloat16, else ``32``.
    devices
        Graphics cards to train on.
    log
        Folder for ``training.csv`` and TensorBoard events, in place of the CSV beside the bundle.
    listener
        Told about every step.

    Returns
    -------
    TrainingResult
        The bundle, and how well it predicts held-out frames, before and after.

    Raises
    ------
    InvalidInput
        If a movie or a bundle cannot be used, options exclude each other, or an extra is missing.
    OutputExists
        If an earlier training wrote there.
    TrainingInterrupted
        After Ctrl-C; it says whether `resume` can go on.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import tifffile
    >>> from denoscope.acquisition import demo_movie, train_bundle
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "movie.tif")
    ...     tifffile.imwrite(path, demo_movie().frames[:20, :32, :32])
    ...     trained = train_bundle([path], Path(folder, "mine.denoscope"), start="live-fast", steps=1)
    ...     trained.report.is_file()
    True
    >>> (trained.method, trained.steps, trained.improved == (trained.score_after < trained.score_before))
    ('live', 1, True)
    """
    require("torch", extra="train", purpose="training")
    from denoscope.runtime import InvalidInput
    from denoscope.train import METHODS, fit, movie_from_file, simulated_movies
    from denoscope.train.fitting.checkpoint import remove_checkpoint

    told = listener or TrainingListener()
    began = time.perf_counter()
    paths, output, log = [Path(path) for path in movies], Path(output), None if log is None else Path(log)
    files = _Files.beside(output, log)
    files.check(resume=resume, overwrite=overwrite)
    if sum(budget is not None for budget in (minutes, epochs, steps)) > 1:
        raise InvalidInput("`minutes`, `epochs` and `steps` are three ways to say how long: give one.")
    beginning = _beginning(
        method, size, window, start, guided=guided, one_photon=one_photon, truth=simulated > 0
    )
    camera = load_camera(camera_gain, camera_offset, camera_roi)

    choice = PartChoice(channel=channel, plane=plane, position=position, interleaved=interleaved, axes=axes)
    loaded = [movie_from_file(path, frames, **choice, camera=camera) for path in paths]
    warnings = _choose_blind_spot(beginning, loaded) + _camera_warnings(paths, choice, camera)
    entry = METHODS[beginning.method]
    if entry.name == "live":
        loaded = [_aligned(movie, told) for movie in loaded]
    settings = _settings(
        entry,
        adapts=beginning.parent is not None,
        budget=(minutes, epochs, steps),
        precision=precision,
        seed=seed,
        devices=devices,
    )
    _announce(told, loaded, warnings, log)
    table_before = files.table_state()
    try:
        result = fit(
            [*loaded, *simulated_movies(simulated, seed=seed)],
            files.checkpoint,
            method=beginning.method,
            settings=settings,
            network=beginning.shape,
            start=beginning.weights,
            flow=beginning.flow,
            resume=resume,
            log=files.table,
            events=log,
            on_plan=lambda plan: told.planned(_plan(plan, beginning, settings, loaded)),
            on_progress=told.progressed,
        )
        finished = _finish(
            result, beginning, entry, settings, loaded, files, warnings, camera, simulated, told, began
        )
    except BaseException as error:
        resumable = files.checkpoint.is_file()
        if not resumable and not files.bundle.exists() and files.table_state() != table_before:
            files.table.unlink(missing_ok=True)  # else it would keep the next try from the same name
        if isinstance(error, KeyboardInterrupt):
            raise TrainingInterrupted(resumable=resumable) from None
        raise
    remove_checkpoint(files.checkpoint)
    return finished


def _announce(
    told: TrainingListener, movies: Sequence[TrainingMovie], warnings: Sequence[str], log: Path | None
) -> None:
    """Tell what was read, and what the user should know of it, before the training begins."""
    from denoscope.train.fitting.logs import tensorboard_installed

    for movie in movies:
        told.read(movie)
        for note in filter(None, (movie.note, alternation_note(movie.frames))):
            told.noted(f"{movie.name}: {note}")
    for sentence in warnings:
        told.warned(sentence)
    if log is not None and not tensorboard_installed():
        told.noted(
            'TensorBoard is not installed (python -m pip install ".[tensorboard]"): only the CSV log is written.'
        )


def _camera_warnings(
    movies: Sequence[Path], choice: PartChoice, camera: CameraCalibration | None
) -> list[str]:
    """Return what the user should know of a calibration and the movies that it is used for."""
    from denoscope.runtime import open_movie

    if camera is None:
        return []
    found = (camera.warning(open_movie(path, mapped=False, **choice)) for path in movies)
    return [warning for warning in found if warning]


def _aligned(movie: TrainingMovie, told: TrainingListener) -> TrainingMovie:
    """Return a movie as a live session aligns it, and say so where it moves."""
    from denoscope.runtime import counted
    from denoscope.train import aligned

    still = aligned(movie)
    if still is not movie:
        frames_are = counted(len(still.frames), "frame is", "frames are")
        told.noted(
            f"{movie.name} moves as a whole: {frames_are} aligned as in a live session, and the part that every frame "
            "shows is learned from."
        )
    return still


@dataclass(frozen=True)
class _Files:
    """Files of a training."""

    bundle: Path
    page: Path
    table: Path
    checkpoint: Path

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.name.removesuffix(".denoscope")

    @classmethod
    def beside(cls, output: Path, log: Path | None) -> _Files:
        name = output.name.removesuffix(".denoscope")
        return cls(
            bundle=output,
            page=output.with_name(f"{name}-report.html"),
            table=output.with_name(f"{name}-training.csv") if log is None else log / "training.csv",
            checkpoint=output.with_name(output.name + ".checkpoint.safetensors"),
        )

    def table_state(self) -> tuple[int, int] | None:
        """Return size and time of change of the table, None where there is none."""
        if not self.table.is_file():
            return None
        stat = self.table.stat()
        return stat.st_size, stat.st_mtime_ns

    def _follows_the_checkpoint(self, path: Path) -> bool:
        """Return whether the interrupted training itself wrote a bundle or page, after its last checkpoint."""
        written = path / "bundle.json" if path == self.bundle else path
        return written.stat().st_mtime_ns >= self.checkpoint.stat().st_mtime_ns

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to replace what an earlier training wrote; its table and what it wrote last are those of `resume`."""
        from denoscope.runtime import InvalidInput

        refuse_name(self.bundle)
        if self.bundle.exists() and not (self.bundle / "bundle.json").is_file():
            raise InvalidInput(f"`output` {self.bundle} exists and is not a bundle: name another folder.")
        interrupted = self.checkpoint.is_file()
        going_on = resume and interrupted
        for path in (self.bundle, self.page, *([] if going_on else [self.table])):
            if path.exists() and not overwrite and not (going_on and self._follows_the_checkpoint(path)):
                can_go_on = interrupted and not resume
                remedy = "add `resume` to go on with the interrupted training, or " if can_go_on else ""
                raise OutputExists(
                    f"{path} exists: {remedy}name another `output`, or add `overwrite` to replace it."
                )


class _Shape(TypedDict, total=False):
    """Fields of a network's settings that the user chose."""

    window: int
    look_ahead: int
    guided: bool
    second_width: int


class _Fit(TypedDict, total=False):
    """Fields of `FitSettings` that the user chose."""

    learning_rate: float
    minutes: float
    epochs: int | None
    steps: int
    precision: Precision


@dataclass
class _Beginning:
    """Start of a training."""

    method: str
    shape: Any
    parent: Bundle | None = None
    weights: Mapping[str, Tensor] | None = None
    flow: Any = None

    @property
    def name(self) -> str:
        """The parent in words."""
        if self.parent is None:
            return "nothing"
        return f"{self.parent.manifest.name} ({self.parent.digest[:12]})"


def _beginning(
    method: str | None,
    size: str | None,
    window: int | None,
    start: str | None,
    *,
    guided: bool = False,
    one_photon: bool = False,
    truth: bool = False,
) -> _Beginning:
    """Load the parent, or choose the shape of a network that starts from nothing.

    A second stage needs movies with truth to learn from.
    """
    from denoscope.export import load_network
    from denoscope.runtime import Bundle, InvalidInput
    from denoscope.train import METHODS, LiveNetSettings, UmvdSettings, load_flow
    from denoscope.train.fitting.checkpoint import refuse_pickle
    from denoscope.train.fitting.methods import method_named

    asked = method_named(method or "live").name
    if one_photon and (asked != "umvd" or start not in (None, "nothing")):
        raise InvalidInput(
            "`one_photon` is for a network of the method umvd that starts from nothing: give `method` umvd without "
            "`start`, or leave `one_photon` out."
        )
    if start is None:
        shaped = size is not None or window is not None or guided
        start = "live" if asked == "live" and not shaped else "nothing"
    if start != "nothing":
        if size is not None or window is not None or guided:
            raise InvalidInput(
                f"`size`, `window` and `guided` shape a network that starts from nothing, and `start` {start} has its "
                "shape already: leave them out, or give `start` nothing."
            )
        refuse_pickle(Path(start))
        parent = Bundle.load(start)
        if method is not None and parent.manifest.method != asked:
            raise InvalidInput(
                f"`start` {start} holds the method {parent.manifest.method}, not {asked}: choose another bundle "
                "or leave `method` out."
            )
        network = load_network(parent)
        flow = _flow_of(parent, network)
        return _Beginning(parent.manifest.method, network.settings, parent, network.state_dict(), flow)
    if asked != "live" and size is not None:
        raise InvalidInput(f"`size` {size} is for the method live: leave it out for {asked}.")
    if asked != "live" and guided:
        raise InvalidInput(f"`guided` is for the method live: leave it out for {asked}.")
    changes: _Shape = {} if window is None else {"window": window}
    if asked == "live":
        if guided:
            changes["guided"] = True
        if not truth:
            changes["second_width"] = 0
        if window is not None:
            changes["look_ahead"] = min(3, window // 2)
        shape = LiveNetSettings.preset(size or "standard", **changes)
        # One pass: the cost of the flow of every frame counts where frames come live.
        return _Beginning(asked, shape, flow=load_flow(passes=1) if shape.guided else None)
    make = UmvdSettings.one_photon if one_photon else METHODS[asked].shape
    return _Beginning(asked, make(**changes), flow=load_flow() if asked == "sts-uvd" else None)


def _flow_of(parent: Bundle, network: Any) -> Any:
    """Return the flow network that goes with a parent, None for a method without flow."""
    if parent.manifest.method == "sts-uvd":
        from denoscope.export import load_bundle_flow

        return load_bundle_flow(parent)
    return getattr(network, "flow", None)


def _choose_blind_spot(beginning: _Beginning, movies: list[TrainingMovie]) -> list[str]:
    """Fit the blind spot of a `live` network to the movies' noise; return what to say about the noise."""
    from denoscope.train import LiveNetSettings, blind_spots_for, hiding_noise

    needed, sentences = blind_spots_for(movies)
    if isinstance(beginning.shape, LiveNetSettings):
        trained = beginning.parent is not None
        beginning.shape, more = hiding_noise(beginning.shape, needed, trained=trained)
        sentences += more
    return sentences


def _settings(
    entry: Method,
    *,
    adapts: bool,
    budget: tuple[float | None, int | None, int | None],
    precision: PrecisionName,
    seed: int,
    devices: int,
) -> FitSettings:
    from denoscope.train import ADAPTATION_RATE
    from denoscope.train.fitting.precision import automatic_precision

    minutes, epochs, steps = budget
    changes: _Fit = {"learning_rate": ADAPTATION_RATE} if adapts else {}
    if steps is not None:
        changes["steps"], changes["epochs"] = steps, None
    elif epochs is not None:
        changes["epochs"] = epochs
    else:
        changes["minutes"] = _DEFAULT_MINUTES if minutes is None else minutes
    if precision == "auto":
        # With a number of steps the same seed is to give the same bits on every machine's float32.
        changes["precision"] = automatic_precision() if "minutes" in changes else "32"
    else:
        changes["precision"] = precision
    return entry.settings(seed=seed, devices=devices, **changes)


def _plan(
    plan: FitPlan, beginning: _Beginning, settings: FitSettings, movies: list[TrainingMovie]
) -> TrainingPlan:
    count, height, width = movies[0].frames.shape if movies else (0, 0, 0)
    shown = min(count, _REPORT_FRAMES) * min(height, _REPORT_EDGE) * min(width, _REPORT_EDGE) / 1e6
    return TrainingPlan(
        method=beginning.method,
        began_from=beginning.name,
        device=plan.device,
        steps=plan.steps,
        step_s=plan.step_s,
        training_s=plan.seconds,
        finishing_s=plan.step_s * (_EXPORT_STEPS + _REPORT_STEPS + _REPORT_STEPS_PER_MPX * shown),
        batch=settings.batch,
        crop=settings.crop,
        precision=settings.precision,
        memory_bytes=plan.memory_bytes,
    )


def _finish(
    result: FitResult[Any],
    beginning: _Beginning,
    entry: Method,
    settings: FitSettings,
    movies: list[TrainingMovie],
    files: _Files,
    warnings: list[str],
    camera: CameraCalibration | None,
    simulated: int,
    told: TrainingListener,
    began: float,
) -> TrainingResult:
    """Write the bundle and the report."""
    from denoscope.export import export_bundle
    from denoscope.runtime import counted
    from denoscope.train.fitting.report import Report, save_report

    if sentence := result.warning():
        warnings.append(sentence)
        told.warned(sentence)
    told.finishing("export")
    with_flow = {"flow": beginning.flow} if beginning.method == "sts-uvd" else {}
    bundle = export_bundle(
        result.network,
        files.bundle,
        name=files.name,
        trained_on=[
            *([f"started from {beginning.name}"] if beginning.parent else []),
            *(f"{m.name}, {counted(len(m.frames), 'frame')}, the last 15 % held out" for m in movies),
            *([f"{counted(simulated, 'simulated movie')}"] if simulated else []),
            *(
                [f"held on to the start by {result.caution:.0%}"]
                if result.improved and result.caution
                else []
            ),
            *([f"corrected with {camera.source} ({camera.sha256[:12]})"] if camera else []),
            f"{result.steps} steps in {result.seconds / 60:.1f} minutes",
        ],
        quality=[_quality(result, movies, entry.score)],
        **with_flow,
    )
    told.finishing("report")
    page = Report(files.name, entry, settings, beginning.shape, movies, beginning.name, warnings)
    verdicts = save_report(result, page, files.page, on_share=told.checked)
    return TrainingResult(
        bundle=files.bundle,
        bundle_sha256=bundle.digest,
        report=files.page,
        log=files.table,
        verdicts=verdicts,
        method=entry.name,
        steps=result.steps,
        precision=settings.precision,
        training_s=result.seconds,
        processor_s=result.processor_s,
        other_s=max(0.0, time.perf_counter() - began - result.seconds),
        stopped=result.stopped,
        score=entry.score,
        score_before=result.score_before,
        score_after=result.score_after,
        improved=result.improved,
        warnings=warnings,
        camera=None if camera is None else CameraMaps.model_validate(camera.describe()),
    )


def _quality(result: FitResult[Any], movies: list[TrainingMovie], score: str) -> Any:
    from denoscope.runtime import QualityRecord

    return QualityRecord(
        movie=", ".join(m.name for m in movies),
        metric=f"{score}, lower is better",
        value=result.score_after if result.improved else result.score_before,
        baseline=result.score_before,
        baseline_name="before training",
    )
