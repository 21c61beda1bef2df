"""Messages of TensorRT for when something fails."""

from __future__ import annotations

from typing import Any

__all__ = ["error_log"]

_KEPT = 8


def error_log(trt: Any) -> Any:
    """Return a logger of the module `trt` that prints nothing and keeps the last errors in `errors`."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the last errors for the exception that follows."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors = [*self.errors[1 - _KEPT :], message]

    return Log()
