"""The denoiser of a session in this process: bundle, backend and one stream a movie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from denoscope.acquisition.contracts import Denoiser
from denoscope.acquisition.processes.memory import peak_bytes, resident_bytes
from denoscope.acquisition.provenance import provenance_of
from denoscope.runtime import (
    BackendUnavailable,
    Bundle,
    Intensity,
    InvalidInput,
    ScannerArtefacts,
    Stream,
    choose_backend,
)

from .exchange import STAGES, Description
from .facts import UNKNOWN, MovieFacts
from .routing import Router

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.runtime import Denoised, StreamKey

__all__ = ["DenoiserRequest", "LocalDenoiser", "SessionDenoiser"]


@dataclass(frozen=True, slots=True)
class DenoiserRequest:
    """Request for a denoiser.

    Attributes
    ----------
    bundle
        Folder or name of a shipped bundle.
    backend
        A backend's name, or ``auto``.
    look_ahead
        Frames to wait for after each frame; None for the bundle's own.
    threads
        Of the backend; None for its default.
    std
        Whether outputs carry their predicted standard deviation.
    fix_line_offset
        Whether the offset between odd and even lines is corrected.
    intensity
        The movie's transform, as plain values; None to estimate it.
    align
        Whether motion is tracked; None to find out.
    stages
        Whether the time of each stage is told with every frame, for measurements.
    scanner
        Artefacts of the scanner, as plain values; None to measure them where the transform is estimated.
    """

    bundle: str
    backend: str = "auto"
    look_ahead: int | None = None
    threads: int | None = None
    std: bool = False
    fix_line_offset: bool = False
    intensity: Mapping[str, Any] | None = None
    align: bool | None = None
    stages: bool = False
    scanner: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, object]:
        """Return plain values, from which ``DenoiserRequest(**values)`` is the same."""
        return asdict(self)


class SessionDenoiser(Denoiser, Protocol):
    """A session's denoiser, in this process or in another."""

    look_ahead: int
    provenance: dict[str, Any]
    """Of the denoised frames, plain values; see `provenance_of`."""

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike, streams: int) -> None:
        """Open so many streams for frames of a shape and dtype now, because it takes longer than a frame."""

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Finish what one stream holds and begin it anew."""

    def learned(self) -> MovieFacts:
        """Return what was found out while recording."""

    def close(self) -> None:
        """Let go of everything; safe to call twice, and from another thread when the denoiser hangs."""


class LocalDenoiser(Router):
    """Denoise in this process; a crash of the backend's library is a crash of this process.

    Parameters
    ----------
    request
        What to open.

    Raises
    ------
    DenoscopeError
        When the bundle, the backend or the look-ahead do not work.
    """

    def __init__(self, request: DenoiserRequest) -> None:
        self._request = request
        self._bundle = Bundle.load(request.bundle)
        if self._bundle.manifest.two_sided:
            raise InvalidInput(
                f"The bundle {self._bundle.manifest.name} looks at what comes after a frame, so it is for movies that "
                "are recorded already: record with the bundle live, then denoise the run with it "
                "(denoscope denoise RUN)."
            )
        self._changed: MovieFacts = {}
        self._state: tuple[Intensity | None, bool, bool, int, int] = (None, False, False, 0, 0)
        self._learned = UNKNOWN
        self.provenance = self._open({})

    def _open(self, rejected: Mapping[str, str]) -> dict[str, Any]:
        """Open the backend and the first stream; return the provenance.

        Parameters
        ----------
        rejected
            Backends that `auto` has tried in vain, with the reasons.
        """
        request = self._request
        # All streams run on it, so it is not the first stream's to close.
        self._backend, self._choice = choose_backend(
            request.backend, threads=request.threads, bundle=self._bundle, rejected=rejected
        )
        try:
            self._first = self._stream(self._bundle)
        except BackendUnavailable as error:
            self._backend.close()
            return self._open(self._and_this(error))
        except BaseException:
            self._backend.close()
            raise
        super().__init__(self._first, self._open_another)
        self.look_ahead = self._first.look_ahead
        return provenance_of(self._first, self._choice).as_json()

    def _and_this(self, error: BackendUnavailable) -> dict[str, str]:
        """Return what `auto` has tried in vain so far; raise the error if the backend was named."""
        if self._request.backend != "auto":
            raise error
        return {**self._choice.rejected, self._choice.name: str(error).rstrip(".")}

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike, streams: int) -> None:
        """Open so many streams for frames of a shape and dtype; `auto` may take another backend for them."""
        try:
            super().prepare(shape, dtype, streams)
        except BackendUnavailable as error:
            rejected = self._and_this(error)
            self.close()
            provenance = self._open(rejected)
            self.provenance.update(provenance)
            changed = {name: value for name, value in provenance.items() if name.startswith("backend")}
            self._changed = cast(MovieFacts, changed)
            self._learned = {**UNKNOWN, **self._changed}
            self.prepare(shape, dtype, streams)

    def _open_another(self) -> Stream:
        return self._stream(self._first.bundle)

    def _stream(self, bundle: Bundle) -> Stream:
        request = self._request
        given, scanner = request.intensity, request.scanner
        return Stream(
            bundle,
            self._backend,
            look_ahead=request.look_ahead,
            intensity=None if given is None else Intensity.model_validate(given),
            scanner=None if scanner is None else ScannerArtefacts.model_validate(scanner),
            std=request.std,
            fix_line_offset=request.fix_line_offset,
            align=request.align,
        )

    def describe(self) -> Description:
        """Return the backend and the memory of this process."""
        return {
            "backend": self._first.backend_info,
            "resident_bytes": resident_bytes(),
            "peak_bytes": peak_bytes(),
        }

    @property
    def stage_seconds(self) -> tuple[float, ...]:
        """Seconds that each of `STAGES` has taken so far, in the first stream."""
        spent = self._first.stage_seconds
        return tuple(getattr(spent, f"{name}_s") for name in STAGES)

    def learned(self) -> MovieFacts:
        """Return the first stream's intensity transform, and whether it follows the scene.

        Also whether that transform is provisional, how often any stream has refined its own (which delays the
        others), which denoised frames are not to be trusted, and the backend, where another than the one of
        `provenance` had to be taken for the frame size.
        """
        first, refinements = self._first, sum(stream.refinements for stream in self.streams.values())
        off = sum(stream.guard_off for stream in self.streams.values())
        state = first.intensity, first.tracks_motion, first.provisional, refinements, off
        # Asked for with every frame, and it changes a few times.
        if state[0] is not self._state[0] or state[1:] != self._state[1:]:
            intensity = None if state[0] is None else state[0].model_dump()
            since = next((r.number for r in first.rebinds if r.motion == "moves"), None)
            found: MovieFacts = {
                "intensity": intensity,
                "intensity_provisional": first.provisional,
                "intensity_refinements": refinements,
                "scanner": None if intensity is None else first.scanner.model_dump(mode="json"),
                "aligned": first.tracks_motion,
                "followed_since": since,
                "guard": self.guard.model_dump(),
            }
            if first.overlaps:
                found["backend_details"] = first.backend_info  # how frames were computed
            self._state, self._learned = state, {**self._changed, **found}
        return self._learned

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""
        outputs = super().flush()
        self._state = None, False, False, 0, -1  # so that all is told once more
        return outputs

    def close(self) -> None:
        """Close every stream, then the backend."""
        super().close()
        self._first.close()
        self._backend.close()
