"""A preview: camera and denoiser run, pictures are shown, and nothing is kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.sinks.live import check_live_format

from .run_files import refuse_existing

if TYPE_CHECKING:
    from denoscope.acquisition.session.settings import SessionSettings

__all__ = ["preview_settings"]


@contextmanager
def preview_settings(settings: SessionSettings) -> Iterator[SessionSettings]:
    """Give the settings of the preview before a recording, which has no end and writes no picture.

    Parameters
    ----------
    settings
        Of the recording. Its run folder is looked at now, so that it is not refused when the recording begins.

    Raises
    ------
    OutputExists
        When the run folder cannot be used.
    """
    refuse_existing(settings.output)
    check_live_format(settings.output, settings.denoised_format)
    folder = Path(tempfile.mkdtemp(prefix="denoscope-preview-"))  # for the log
    try:
        yield settings.model_copy(
            update={
                "output": folder,
                "frames": None,
                "seconds": None,
                "keep_raw": False,
                "fill": False,
                "picture": False,
                "std": False,
                "regions": None,
                "trigger": (),
                "adapt": False,
                "reserve_mb": 0.0,
            }
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
