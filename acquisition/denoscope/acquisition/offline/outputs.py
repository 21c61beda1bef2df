"""Files of offline work: who wrote them, how each gets its name, and that no other file is replaced.

::

    OUTPUT                      appears when it is complete
    OUTPUT.partial              until then
    OUTPUT.partial.json         journal, from which `resume` goes on
    OUTPUT.partial.lock         held while one program writes there
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from denoscope.acquisition.errors import DiskUnwritable, OutputExists
from denoscope.acquisition.raw.in_the_way import in_the_way, no_name
from denoscope.runtime import InvalidInput, bad_link

__all__ = ["check_files", "check_output", "give_name", "locked", "partial_of", "stem_of"]

_LONGEST_NAME = 255
_LONGEST_ENDING = ".partial.json.new"


def partial_of(output: Path) -> Path:
    """Return where an output is written until it is complete."""
    return output.with_name(output.name + ".partial")


def stem_of(output: Path) -> str:
    """Return the name of a denoised movie without its ending, for the files beside it; other dots stay."""
    return output.stem[:-4] if output.stem.lower().endswith(".ome") else output.stem


def check_output(path: Path) -> None:
    """Refuse an output that exists, has no folder or whose name is too long.

    Raises
    ------
    OutputExists
        When the output exists, or its folder does not.
    InvalidInput
        When the file system has no room for the name, or a file stands where a folder is needed.
    """
    length = len(os.fsencode(path.name)) if os.name == "posix" else len(path.name)
    most = _LONGEST_NAME - len(_LONGEST_ENDING)
    if length > most:
        raise InvalidInput(
            f"the name {path.name[:20]}...{path.name[-10:]} has {length} characters, and {most} are "
            "the limit (the files "
            "beside it have longer ones): choose a shorter `output`."
        )
    if (why := no_name(path)) is not None:
        raise InvalidInput(f"{path.name} cannot be written: {why}; name another `output`.")
    if (why := bad_link(path)) is not None:
        raise OutputExists(f"{why}; name another file.")
    if path.exists():
        raise OutputExists(f"{path} exists and is never overwritten; name another file.")
    if (why := in_the_way(path.parent)) is not None:
        raise InvalidInput(f"{path.name} cannot be written: {why}; name another `output`.")
    if not path.parent.is_dir():
        raise OutputExists(f"the folder {path.parent} for {path.name} does not exist; make it first.")


def _files_of(output: Path) -> list[Path]:
    partial = partial_of(output)
    journal = partial.with_name(partial.name + ".json")
    return [output, partial, journal, journal.with_name(journal.name + ".new"), lock_of(output)]


def lock_of(output: Path) -> Path:
    """Return the file that is locked while an output is being written."""
    return output.with_name(output.name + ".partial.lock")


def check_files(inputs: list[Path], output: Path, std: Path | None, traces: Sequence[Path] = ()) -> None:
    """Refuse outputs that would be written over an input, or over each other.

    Raises
    ------
    InvalidInput
        When two of them would be one file; the message names them.
    """
    written: dict[str, Path] = {}
    for each in filter(None, (output, std)):
        for path in _files_of(each):
            key = _same(path)
            if key in written and each is std:
                raise InvalidInput(
                    f"`std` {std} and `output` {output} would be written into one file, {path.name}; "
                    "give `std` another "
                    "name."
                )
            written[key] = path
    for path in inputs:
        if _same(path) == _same(output):
            raise InvalidInput(f"{path} is the input and is never overwritten; name another `output`.")
        if std is not None and _same(path) == _same(std):
            raise InvalidInput(f"{path} is the input and is never overwritten; give `std` another name.")
        if _same(path) in written:
            raise InvalidInput(
                f"{path} is the input and is never overwritten: {output.name} would be written over it, because "
                f"{output.name}.partial is where it is kept until it is complete; name another `output`."
            )
    for path in traces:
        for each in (path, partial_of(path)):
            if _same(each) in written:
                raise InvalidInput(
                    f"`traces` would be written into {each.name}, which is another output; give `traces` another name."
                )
            written[_same(each)] = each


def _same(path: Path) -> str:
    """Return what is equal for two names of one file."""
    try:
        about = path.stat()
    except OSError:
        return os.path.normcase(os.path.realpath(path))
    return f"{about.st_dev}:{about.st_ino}" if about.st_ino else os.path.normcase(os.path.realpath(path))


@contextmanager
def locked(output: Path, std: Path | None = None, *, journal: bool = False) -> Iterator[str | None]:
    """Keep other programs from writing the same output inside the block.

    Parameters
    ----------
    output, std
        What will be written.
    journal
        Whether there is a journal, which says that an interrupted run left the ``.partial``.

    Yields
    ------
    str or None
        A sentence for the user where the file system cannot lock files.

    Raises
    ------
    OutputExists
        When another program writes it now, or a ``.partial`` is there that no run of denoscope left.
    """
    path = lock_of(output)
    if not journal and not os.path.lexists(path):
        for partial in map(partial_of, filter(None, (output, std))):
            if os.path.lexists(partial):
                raise OutputExists(
                    f"{partial} exists, and nothing says that an interrupted run left it; move or delete it, or name "
                    "another `output`."
                )
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        if not os.path.lexists(path):
            raise DiskUnwritable(f"no file can be made in {path.parent}; name another `output`.") from None
        raise OutputExists(
            f"another denoscope is writing {partial_of(output)} at this moment; wait for it, or name another `output`."
        ) from None
    except NotImplementedError:
        yield f"{path.parent} cannot lock files: make sure that nothing else writes {output.name} at the same time"
        return
    try:
        yield None
    finally:
        lock.release()
        if not os.path.lexists(partial_of(output)):
            path.unlink(missing_ok=True)


def give_name(partial: Path, path: Path) -> None:
    """Give a complete file or folder its name, unless something got that name meanwhile.

    Raises
    ------
    OutputExists
        When something has.
    """
    if not _moved(partial, path):
        raise OutputExists(
            f"{path} appeared while it was being made and is never overwritten; the result is complete: move "
            f"{path.name} away and run the same command with `resume`, or rename {partial.name} yourself."
        )


def _moved(partial: Path, path: Path) -> bool:
    if os.name != "nt" and not partial.is_dir():
        try:
            os.link(partial, path)  # fails where the name is taken, which a rename does not
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            pass
        else:
            partial.unlink()
            return True
    if os.path.lexists(path):
        return False
    try:
        partial.rename(path)
    except OSError:
        if os.path.lexists(path) and os.path.lexists(partial):
            return False
        raise
    return True
