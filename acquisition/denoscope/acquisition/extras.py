"""Optional parts of the installation: asked for by the command that needs them, with the remedy."""

from __future__ import annotations

from importlib.util import find_spec

from denoscope.runtime import InvalidInput

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> None:
    """Raise `InvalidInput` that says what to install when `module` is missing."""
    if find_spec(module) is None:
        raise InvalidInput(
            f'{purpose} needs {module}, which is not installed: run python -m pip install ".[{extra}]"'
            " in a copy of the denoscope repository."
        )
