"""Source ``FILE.cfg``: a headless core in this process, loaded from a Micro-Manager configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.errors import SourceUnavailable
from denoscope.runtime import InvalidInput

from .camera import AS_IT_IS, CameraChoice, SetCamera
from .core import CoreSource

__all__ = ["ConfigSource", "adapter_folder", "explain_load_error", "import_mmpycorex"]

_INTERFACE = re.compile(r"MMCore requires (\d+); device adapter has (\d+)")
_INSTALL = 'install it with: python -m pip install ".[micromanager]"'


def import_mmpycorex() -> Any:
    """Return ``mmpycorex``, which runs the core of pycromanager.

    pycromanager itself would load dask and half of SciPy, which takes longer than the rest of the start.

    Raises
    ------
    SourceUnavailable
        When the extra ``micromanager`` is not installed.
    """
    try:
        import mmpycorex
    except ImportError as error:
        raise SourceUnavailable(
            f"Micro-Manager's Python packages are missing ({error}); {_INSTALL}."
        ) from error
    return mmpycorex


def adapter_folder(chosen: Path | None) -> Path:
    """Return the folder with the device adapters: `chosen`, or that of ``mm-test-adapters``.

    Raises
    ------
    InvalidInput
        When `chosen` is not a folder.
    SourceUnavailable
        When none is chosen and ``mm-test-adapters`` is not installed.
    """
    if chosen is not None:
        if not chosen.is_dir():
            raise InvalidInput(
                f"`mm_dir` {chosen} is not a folder; name the folder that holds Micro-Manager's adapters."
            )
        return chosen
    try:
        from mm_test_adapters import device_adapter_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise SourceUnavailable(
            "no folder with device adapters is known: name Micro-Manager's with `mm_dir`, or for the demo "
            f"adapters {_INSTALL}."
        ) from error
    return Path(device_adapter_path())


def explain_load_error(error: Exception, config: Path, folder: Path, required: str) -> SourceUnavailable:
    """Return one sentence for why a configuration did not load.

    Parameters
    ----------
    error
        What the core raised.
    config
        The configuration file.
    folder
        The folder with the adapters.
    required
        The device-interface number that the installed core speaks.
    """
    found = _INTERFACE.search(str(error))
    if found:
        return SourceUnavailable(
            f"the adapters in {folder} have device interface {found[2]}, and the installed pymmcore needs "
            f"{found[1]}; install the pymmcore release whose version ends in .{found[2]}.0, or a "
            "Micro-Manager build "
            f"with device interface {found[1]} (its folder is named by `mm_dir`)."
        )
    reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return SourceUnavailable(
        f"{config} did not load with the adapters in {folder} (device interface {required}): {reason}; name the folder "
        "of the Micro-Manager that the configuration was made with by `mm_dir`."
    )


class ConfigSource(CoreSource):
    """A headless core on pycromanager's Python backend, one a process.

    Parameters
    ----------
    config
        Micro-Manager configuration file.
    mm_dir
        Folder with the device adapters, or None for the ``mm-test-adapters`` package's.
    buffer_mb
        Size of the core's circular buffer in MB.
    camera
        Exposure, region and binning while it is open.
    """

    def __init__(
        self,
        config: Path,
        *,
        mm_dir: Path | None = None,
        buffer_mb: int = 512,
        camera: CameraChoice = AS_IT_IS,
    ) -> None:
        super().__init__(buffer_mb=buffer_mb)
        self._choice = camera
        self._set: SetCamera | None = None
        self._config = config
        self._mm_dir = mm_dir
        self._package: Any = None

    def open(self) -> SourceInfo:
        """Start the core, load the configuration and describe the camera."""
        folder = adapter_folder(self._mm_dir)
        config = self._config if self._config.is_file() else folder / self._config
        if not config.is_file():
            raise InvalidInput(
                f"the configuration {self._config} is neither a file nor one in {folder}: give the path of the "
                "file that Micro-Manager loads."
            )
        self._package = import_mmpycorex()
        import pymmcore

        version = str(pymmcore.__version__)
        try:
            self._package.create_core_instance(
                str(folder), str(config.resolve()), python_backend=True, buffer_size_mb=self._buffer_mb
            )
        except (OSError, RuntimeError) as error:
            required = version.split(".")[-2]
            raise explain_load_error(error, config, folder, required) from error
        self._core = self._package.Core()
        label = str(self._core.get_camera_device())
        details: dict[str, Any] = {"config": str(config), "adapters": str(folder)}
        if label and self._choice.names:
            self._set = SetCamera(self._core, label, self._choice)
            details["camera_settings"] = self._set.record()
        return self._describe(
            "config",
            str(self._config),
            cameras=max(int(self._core.get_number_of_camera_channels()), 1),
            versions={"mmcore": str(self._core.get_version_info()), "pymmcore": version},
            details=details,
        )

    @property
    def core(self) -> Any:
        """Core of Micro-Manager, for triggers."""
        return self._core

    def notes(self) -> list[str]:
        """Return what the user should know in the end, values that the camera has rounded among it."""
        return [*super().notes(), *(self._set.notes if self._set is not None else ())]

    def close(self) -> None:
        """Stop the camera, put back its settings, and unload every device."""
        if self._core is not None:
            self.stop()
            try:
                if self._set is not None:
                    self._set.restore()
            finally:
                self._core = None
                self._package.terminate_core_instances()
