"""Remove what a recording created in its folder where it never began."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Traces"]


class Traces:
    """Remember which files and folders one run creates.

    Parameters
    ----------
    folder
        The run folder, which may exist or not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = [each for each in (folder, *folder.parents) if not each.exists()]

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notice what appears in the folder inside the block; nothing where another run turns out to own the folder."""
        before = set(self._entries())
        try:
            yield
        except FileExistsError:  # what appeared may be the other's
            raise
        except BaseException:  # a full disk, or Ctrl-C
            self._notice(before)
            raise
        self._notice(before)

    def _notice(self, before: set[Path]) -> None:
        self._made += [path for path in self._entries() if path not in before]

    def _entries(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except OSError:
            return []

    def remove(self) -> None:
        """Remove it all, folders only where nothing else is in them."""
        folders = [path for path in self._made if path == self._folder or path in self._folder.parents]
        for path in self._made:
            with suppress(OSError):
                if path in folders:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        for path in folders:
            with suppress(OSError):
                path.rmdir()
        self._made = []
