"""Names of a package that come from its modules when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["late_names"]


def late_names(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Return what stands as ``__getattr__`` in a package, so that each of its modules is imported with its first name.

    Parameters
    ----------
    package
        Its ``__name__``.
    modules
        Names by the module in the package that has them.

    Returns
    -------
    Callable
        Takes a name and returns its value; raises `AttributeError` for any other name.

    Examples
    --------
    >>> late_names("json", {"decoder": ["JSONDecoder"]})("JSONDecoder").__name__
    'JSONDecoder'
    """
    home = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return get
