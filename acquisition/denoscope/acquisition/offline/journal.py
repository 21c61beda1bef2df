"""Progress of an offline run, written beside its output, so that it can go on after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.notes.nan_count import NanCount
from denoscope.acquisition.raw.confirm import confirm
from denoscope.acquisition.read_whole import read_whole
from denoscope.runtime import GuardFinding, Intensity, InvalidInput, ScannerArtefacts

__all__ = ["Calibrated", "Journal"]

_FORMAT = "denoscope-denoise"
_SCHEMA_VERSION = 1


class Calibrated(BaseModel):
    """How a run denoises, as its journal has it; runs of earlier versions measured no artefacts of the scanner."""

    backend: str
    intensity: Intensity
    aligned: bool
    scanner: ScannerArtefacts = ScannerArtefacts()


class Journal:
    """Record of the chunks that are on the disk, and of their job.

    The job is everything that the result depends on; a run goes on only where it is the same.

    Parameters
    ----------
    output
        What is being written; the journal is ``OUTPUT.partial.json`` until it is complete.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".partial.json")
        self.job: dict[str, object] = {}
        self.chunks: set[int] = set()
        self.unconfirmed: OSError | None = None
        """The disk's answer where it cannot confirm what was written."""
        self.half: tuple[int, str] = 0, ""
        """Frames of the chunk after the finished ones, where they are written in order, and their hash."""
        self.inputs: dict[int, str] = {}
        """Hash of the frames of each finished chunk, where this computer read them."""
        self.nan = NanCount()
        """Pixels that are NaN in the frames that are written."""
        self.guard = GuardFinding()
        """Findings of the guard in the frames that are written."""
        self.unusual: dict[str, int] = {}
        """How many of these frames were shown as measured, by kind."""
        self.complete = False
        """True where the files are whole and only lack their names."""

    @property
    def frames(self) -> int:
        """Frames of the chunk after the finished ones."""
        return self.half[0]

    def exists(self) -> bool:
        """True where an interrupted run left one."""
        return self.path.is_file()

    def load(self) -> None:
        """Read what an interrupted run left.

        Raises
        ------
        InvalidInput
            When the file is damaged.
        """
        try:
            data = json.loads(read_whole(self.path, "journal"))
            kind = data["format"], data["schema_version"]
            self.job, self.chunks = dict(data["job"]), {int(index) for index in data["chunks"]}
            self.half = int(data["frames"]), str(data.get("frames_sha256", ""))
            self.inputs = {int(index): str(value) for index, value in data.get("chunks_sha256", {}).items()}
            self.nan = NanCount(*(int(count) for count in data.get("nan", (0, 0))))
            self.guard = GuardFinding(**data.get("guard", {}))
            self.unusual = {str(kind): int(count) for kind, count in data.get("unusual", {}).items()}
            self.complete = bool(data.get("complete", False))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from error
        if kind != (_FORMAT, _SCHEMA_VERSION):
            raise InvalidInput(
                f"{self.path} is {kind[0]} of version {kind[1]}, and this denoscope reads {_FORMAT} of version "
                f"{_SCHEMA_VERSION}; delete it and its .partial to begin anew."
            )

    def calibrated(self) -> Calibrated:
        """Return how the interrupted run denoised.

        Raises
        ------
        InvalidInput
            When the file does not say so.
        """
        try:
            return Calibrated.model_validate(self.job)
        except ValidationError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InvalidInput:
        return InvalidInput(
            f"{self.path} does not say how far the interrupted run came ({one_line(error)}); "
            "delete it and its .partial to begin anew."
        )

    def refuse(self) -> None:
        """Refuse to begin anew over an interrupted run.

        Raises
        ------
        OutputExists
            Where there is one.
        """
        if self.exists():
            raise OutputExists(
                f"{self.path} is of a run that was interrupted: add `resume` to go on with it, or delete it to "
                "begin anew."
            )

    def check(self, job: Mapping[str, Any]) -> None:
        """Compare a job with the interrupted one.

        Raises
        ------
        InvalidInput
            When the two would not give the same result.
        """
        job = json.loads(json.dumps(job))
        for name in {**self.job, **job}:
            before, now = self.job.get(name), job.get(name)
            if before != now and name == "sampled_frames":
                raise InvalidInput(
                    f"{self.path.name} was begun with another movie, or the movie has changed since: "
                    "resume with the same, "
                    "or delete it and begin anew."
                )
            if before != now:
                raise InvalidInput(
                    f"{self.path.name} was begun with {name.replace('_', ' ')} {before}, now it is {now}: resume "
                    "with the same, or delete it and begin anew."
                )

    def write(self) -> None:
        """Put the present state on the disk, whole or not at all."""
        draft = self.path.with_name(self.path.name + ".new")
        data = {
            "format": _FORMAT,
            "schema_version": _SCHEMA_VERSION,
            "job": self.job,
            "chunks": sorted(self.chunks),
            "frames": self.half[0],
            "frames_sha256": self.half[1],
            "chunks_sha256": self.inputs,
            "nan": [self.nan.pixels, self.nan.frames],
            "guard": self.guard.model_dump(),
            "unusual": self.unusual,
            "complete": self.complete,
        }
        with draft.open("w", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            self.unconfirmed = confirm(file.fileno()) or self.unconfirmed
        draft.replace(self.path)

    def remove(self) -> None:
        """Delete it: the output is complete."""
        self.path.unlink(missing_ok=True)
