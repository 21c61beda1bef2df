"""The course of a training as a CSV file, and as TensorBoard events where that is installed."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = ["COLUMNS", "TrainingLog", "read_log", "tensorboard_installed"]

COLUMNS = (
    "step",
    "done",
    "elapsed_s",
    "processor_s",
    "learning_rate",
    "loss",
    "held_out_score",
    "kappa",
    "consistency_loss",
)


def tensorboard_installed() -> bool:
    """Return whether TensorBoard events can be written."""
    return find_spec("tensorboard") is not None


def read_log(path: Path) -> list[dict[str, float]]:
    """Read a log as rows of numbers; cells that were empty are absent."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


class TrainingLog:
    """Rows of numbers, written as they come.

    Parameters
    ----------
    path
        CSV file; None logs nothing.
    events
        Folder for TensorBoard events; None writes none.
    after
        Step of the checkpoint that training goes on from: rows of later steps are taken back, so the
        file is the one that an uninterrupted training writes. 0 begins a new file.
    """

    def __init__(self, path: Path | None, events: Path | None = None, *, after: int = 0) -> None:
        self._file: TextIO | None = None
        self._board: Any = None
        if path is not None:
            kept = (
                [r for r in read_log(path) if r.get("step", 0) <= after] if after and path.is_file() else []
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", newline="", encoding="utf-8")
            self._rows = csv.DictWriter(self._file, COLUMNS, restval="")
            self._rows.writeheader()
            for row in kept:
                self._rows.writerow(row | {"step": int(row["step"])})
            self._file.flush()
        if events is not None and tensorboard_installed():
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(events), purge_step=after + 1)

    def write(self, row: Mapping[str, float]) -> None:
        """Add one row; names as in `COLUMNS`, those without a finite value left out."""
        row = {name: value for name, value in row.items() if math.isfinite(value)}
        if self._file is not None:
            self._rows.writerow(row)
            self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name not in ("step", "done"):
                    self._board.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Close the file and the events."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
