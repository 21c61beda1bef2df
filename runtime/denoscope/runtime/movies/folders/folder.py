"""A folder as a movie: numbered images or stacks, one of our run folders, or Micro-Manager's stack files."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.links import bad_link
from denoscope.runtime.movies.foreign import foreign_folder
from denoscope.runtime.movies.formats.tiff import Head, count_pages, head_of, open_flat, open_tiff
from denoscope.runtime.movies.headers.ome import file_names, listed_images
from denoscope.runtime.movies.headers.pages_of import Turns, choose_pages
from denoscope.runtime.movies.install import how_to_install
from denoscope.runtime.movies.joined import Chosen, Joined, parts_note
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick, pick_index
from denoscope.runtime.words import counted

from .names import Named, is_beside, missing_numbers, natural_order, sort_names
from .png import PngImage
from .prairie import CYCLE, Cycles, cycles_of

__all__ = ["natural_order", "open_folder"]

_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_STACK_PART = re.compile(r"(.*)_[1-9]\d*$")
_LOOKED_INTO = 100
_SHOWN = 4
_PREVIEW = re.compile(r"chan[a-d]_preview\.tiff?", re.IGNORECASE)


class _Taken(NamedTuple):
    """Files of the wanted part in the order of time, what is left to choose in them, and sentences for the user."""

    files: list[Named]
    inside: Wanted
    note: str = ""  # how planes became time
    absent: str = ""  # time points without an image of this part
    first: str = ""  # a file without a number


def open_folder(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a folder of equally large images or stacks, in the order of the numbers in their names.

    Channels, planes and positions that the names tell apart are chosen from like those of a file.

    Raises
    ------
    InvalidInput
        If there are none, they are of several kinds or sizes, a part is missing, or the choice is ambiguous.
    """
    if (path / "raw.tif").is_file() and (path / "report.json").is_file() | (path / "raw.jsonl").is_file():
        return open_tiff(path / "raw.tif", wanted, limit_bytes)
    files = {
        p.name: p for p in path.iterdir() if p.suffix.lower() in (*_TIFF, ".png") and not is_beside(p.name)
    }
    for p in files.values():
        if (why := bad_link(p)) is not None:
            raise InvalidInput(
                f"{path} cannot be read whole: {why}; remove the link or put the image in its place."
            )
    files = {name: p for name, p in files.items() if not p.is_dir()}
    if len(files) > 1:  # ThorImage's picture of the field before the recording
        files = {name: p for name, p in files.items() if not _PREVIEW.fullmatch(name)} or files
    if not files:
        if videos := _videos(path):
            return _open_videos(path, videos, wanted, limit_bytes)
        what = _below(path) or foreign_folder(path)
        raise InvalidInput(
            f"{path} holds no movie: no TIFF or PNG images, NDTiff.index or OME-Zarr metadata{what}."
        )
    kinds = {"png" if p.suffix.lower() == ".png" else "tif" for p in files.values()}
    if len(kinds) > 1:
        raise InvalidInput(f"{path} holds .png and .tif images: move one kind elsewhere.")
    first = files[min(files, key=natural_order)]
    if "MMStack" in first.name:
        return _open_micro_manager(path, files, wanted, limit_bytes)
    head = Head(None, "") if kinds == {"png"} else head_of(first)
    if _is_listed(head.ome, set(files)):
        return open_tiff(first, wanted, limit_bytes)
    cycles = cycles_of(path, head.ome)
    taken = _choose(path, files, cycles, wanted)
    chosen, inside = taken.files, taken.inside
    parts = [files[named.name] for named in chosen]
    lost = missing_numbers([named.time for named in chosen]) if all(n.time for n in chosen) else []
    if kinds == {"png"}:
        pick(str(path), [Axis("time", len(parts))], inside)
        opener = partial(PngImage, limit_bytes=limit_bytes)
        note = "; ".join(filter(None, (taken.note or _lost_note(path, lost), taken.absent, taken.first)))
        return Joined(parts, [1] * len(parts), opener, opener(parts[0]), note)
    stacks = cycles.kind == "plane" and all(CYCLE.search(part.name) for part in parts)
    reader = _open_parts(
        path, parts, lost, inside, limit_bytes, taken.note, stacks=stacks, zigzag=stacks and cycles.zigzag
    )
    beginning = (
        taken.first if reader.shape[0] == len(parts) else ""
    )  # the parts of a recording are listed anyway
    reader.note = "; ".join(filter(None, (reader.note, taken.absent, beginning)))
    return reader


def _videos(path: Path) -> dict[str, Path]:
    """Return the videos of a folder by their names."""
    return {
        p.name: p
        for p in path.iterdir()
        if p.suffix.lower() in (".avi", ".mkv", ".mp4", ".mov") and not is_beside(p.name) and p.is_file()
    }


def _open_videos(path: Path, files: dict[str, Path], wanted: Wanted, limit_bytes: int) -> Reader:
    """Open videos that follow each other in time, as miniscopes write them: ``0.avi``, ``1.avi``."""
    if len({p.suffix.lower() for p in files.values()}) > 1:
        raise InvalidInput(f"{path} holds videos of several formats: move one kind elsewhere.")
    if find_spec("av") is None:
        raise InvalidInput(f"{path} holds videos, and reading them needs av: {how_to_install('video')}.")
    from denoscope.runtime.movies.formats.libraries.video import open_video

    taken = _choose(path, files, Cycles(), wanted)
    parts = [files[named.name] for named in taken.files]
    lost = missing_numbers([named.time for named in taken.files]) if all(n.time for n in taken.files) else []
    if lost:
        raise InvalidInput(
            f"{path} lacks part {lost[0]} of the recording ({len(lost)} of {len(lost) + len(parts)} missing): copy it "
            "to the others, or move the parts after it to a separate folder."
        )
    opener = partial(open_video, wanted=taken.inside, limit_bytes=limit_bytes)
    first = opener(parts[0])
    lengths = [first.shape[0], *(opener(part).shape[0] for part in parts[1:])]
    note = parts_note(path.name, parts, lengths) if len(parts) > 1 else ""
    return Joined(parts, lengths, opener, first, "; ".join(filter(None, (first.note, taken.note, note))))


def _below(path: Path) -> str:
    """Return which folders in this one hold images, as the end of a sentence."""
    folders = sorted(
        (p for p in path.iterdir() if p.is_dir() and p.name[0] != "."), key=lambda p: natural_order(p.name)
    )
    some = [
        p for p in folders[:_LOOKED_INTO] if any(i.suffix.lower() in (*_TIFF, ".png") for i in p.iterdir())
    ]
    if not some:
        return ""
    named = ", ".join(p.name for p in some[:_SHOWN]) + (", ..." if len(some) > _SHOWN else "")
    return f"; images lie in {named}: name one of these folders, for example {some[0]}"


def _open_micro_manager(path: Path, files: dict[str, Path], wanted: Wanted, limit_bytes: int) -> Reader:
    """Open the stack files of Micro-Manager: a position each, of one file or several (``_1``, ``_2``)."""
    stacks: dict[str, list[str]] = {}
    for name in sorted(files, key=natural_order):
        stem = name.split(".")[0]
        part = _STACK_PART.match(stem)
        whole = part[1] if part and any(other.split(".")[0] == part[1] for other in files) else stem
        stacks.setdefault(whole, []).append(name)
    first = files[next(iter(stacks.values()))[0]]
    if len(stacks) == 1 or _is_listed(head_of(first).ome, set(files)):
        return open_tiff(first, wanted, limit_bytes)
    labels = tuple(whole.partition("MMStack_")[2] or whole for whole in stacks)
    labels = labels if len(set(labels)) == len(labels) else tuple(stacks)
    index = pick_index(str(path), Axis("position", len(stacks), labels), wanted.position)
    chosen = files[stacks[list(stacks)[index]][0]]
    return open_tiff(chosen, Wanted(wanted.channel, wanted.plane, None, wanted.interleaved), limit_bytes)


def _is_listed(ome: str, names: set[str]) -> bool:
    """Say whether the OME-XML of the first file lists the whole folder."""
    listed = set(file_names(ome)) if ome else set()
    return len(listed) > 1 and names <= listed and listed_images(ome) is not None


def _choose(path: Path, files: dict[str, Path], prairie: Cycles, wanted: Wanted) -> _Taken:
    """Return the files of the wanted part in the order of time, and what to know of them."""
    found = sort_names(list(files), cycle_is=prairie.kind)
    if found.unclear is not None:
        cycles, images = found.unclear
        if wanted.plane is not None:
            found = sort_names(list(files), cycle_is="plane")
        elif wanted.position is None:
            raise InvalidInput(
                f"{path} has {cycles} cycles of {images} images, and nothing says what they are: choose with `plane` "
                f"0 to {images - 1} where each cycle is a stack, or with `position` 0 to {cycles - 1} one cycle of a "
                "time series."
            )
        else:
            return _Taken(*_one_cycle(path, found.files, wanted))
    if found.twins is not None:
        raise InvalidInput(
            f"{path} holds {found.twins[0]} and {found.twins[1]}, which have the same number: move the files of one of "
            "the two recordings elsewhere."
        )
    if prairie.zigzag and len(found.planes) > 1:
        found = replace(found, files=_turned_back(found.files, found.planes))
    times = len({named.time for named in found.files})
    axes = [
        Axis("time", times),
        Axis("channel", len(found.channels), found.channels),
        Axis("plane", len(found.planes), found.planes),
        Axis("position", len(found.positions), found.positions),
    ]
    here = [axis for axis in axes if axis.size > 1]
    picks = pick(str(path), here, _of(wanted, {a.kind for a in here}))
    taken = list(found.files)
    for axis, index in zip(here, picks, strict=True):
        if index is not None:
            taken = [n for n in taken if getattr(n, axis.kind) == axis.labels[index]]
    if not taken:
        raise InvalidInput(
            f"{path} holds no file of this channel, plane and position: choose another combination."
        )
    taken.sort(key=lambda n: (n.time, natural_order(n.name)))
    absent = times - len({named.time for named in taken})
    gaps = (
        f"{path.name}: {absent} of {counted(times, 'time point has', 'time points have')} no image of this choice"
        if absent and len(here) > 1
        else ""
    )
    first = ""
    if len(taken) > 1 and taken[0].name in found.firsts:
        first = f"{taken[0].name}, which has no number, is taken for the image before {taken[1].name}"
    return _Taken(taken, _of(wanted, {a.kind for a in axes if a.size == 1}), picks.note, gaps, first)


def _turned_back(files: tuple[Named, ...], planes: tuple[str, ...]) -> tuple[Named, ...]:
    """Return images with the planes that they show where every other cycle goes through the sample backwards."""
    backwards = dict(zip(planes, reversed(planes), strict=True))
    return tuple(replace(f, plane=backwards[f.plane]) if f.time and f.time[0] % 2 == 0 else f for f in files)


def _of(wanted: Wanted, kinds: set[str]) -> Wanted:
    """Return what is wanted of these axes only."""
    return Wanted(
        channel=wanted.channel if "channel" in kinds else None,
        plane=wanted.plane if "plane" in kinds else None,
        position=wanted.position if "position" in kinds else None,
    )


def _one_cycle(path: Path, files: tuple[Named, ...], wanted: Wanted) -> tuple[list[Named], Wanted]:
    cycles = sorted({n.time[0] for n in files})
    labels = tuple(str(c) for c in cycles)
    (index,) = pick(str(path), [Axis("position", len(cycles), labels)], Wanted(position=wanted.position))
    taken = [n for n in files if n.time[0] == cycles[index or 0]]
    return [Named(n.name, n.channel, n.plane, "", n.time[1:]) for n in taken], Wanted(
        wanted.channel, wanted.plane
    )


def _lost_note(path: Path, lost: list[int]) -> str:
    if not lost:
        return ""
    return (
        f"{path.name}: {len(lost)} image{'s' if len(lost) > 1 else ''} of the series "
        f"{'are' if len(lost) > 1 else 'is'} missing, the first is number {lost[0]}; the images around a gap are "
        "taken for neighbours"
    )


def _open_parts(
    path: Path,
    parts: list[Path],
    lost: list[int],
    inside: Wanted,
    limit_bytes: int,
    said: str,
    *,
    stacks: bool = False,
    zigzag: bool = False,
) -> Reader:
    """Open TIFF files that follow each other in time: single images or stacks; `said` is a note on them.

    `stacks` says that the pages of each file are the planes of one volume, `zigzag` that every other file has them
    in reverse order.
    """
    head = head_of(parts[0])
    listed = set(file_names(head.ome)) if head.ome else set()
    if len(listed & {p.name for p in parts}) > 1:
        raise InvalidInput(
            f"{path} holds {len(listed)} files of one OME-TIFF set and others: give the path of one of the set's files."
        )
    opener = partial(open_tiff, wanted=inside, limit_bytes=limit_bytes)
    turns: Turns | None = head.turns if head.turns is not None and not head.turns.single else None
    if turns is not None:
        opener = partial(open_flat, limit_bytes=limit_bytes)
    elif stacks and len(parts) > 1 and (planes := count_pages(parts[0])) > 1:
        turns, opener = Turns(1, planes, zigzag=zigzag), partial(open_flat, limit_bytes=limit_bytes)
    first = opener(parts[0])
    frame_bytes = first.shape[1] * first.shape[2] * first.dtype.itemsize
    if first.shape[0] == 1 and inside.plane is None and inside.channel is None:
        lengths = _count_images(parts, frame_bytes, first.piece == (1, 1, 1))
    elif turns is not None:
        lengths = [count_pages(part) for part in parts]
        lengths[0] = first.shape[0]
    else:
        lengths = [first.shape[0], *(opener(part).shape[0] for part in parts[1:])]
    if stacks and turns is not None and any(n != lengths[0] for n in lengths[:-1]):
        raise InvalidInput(
            f"{path} holds volumes of {min(lengths)} to {counted(max(lengths), 'plane')}: move those that were cut "
            "short elsewhere."
        )
    long = max(lengths) > 1
    if long and lost:
        raise InvalidInput(
            f"{path} lacks part {lost[0]} of the recording ({len(lost)} of {len(lost) + len(parts)} missing): copy it "
            "to the others, or move the parts after it to a separate folder."
        )
    if long and said:
        raise InvalidInput(
            f"{path} holds {len(parts)} stacks, which show a plane each by their names: choose one with `plane` 0 to "
            f"{len(parts) - 1}."
        )
    note = parts_note(path.name, parts, lengths) if long and len(parts) > 1 else _lost_note(path, lost)
    note = "; ".join(filter(None, (said, first.note, note)))
    joined = Joined(parts, lengths, opener, first, note)
    if turns is None:
        return joined
    places, left_out = choose_pages(str(path), turns, joined.shape[0], inside)
    return Chosen(joined, places, left_out)


def _count_images(parts: list[Path], frame_bytes: int, plain: bool) -> list[int]:
    """Return the pages of each file; a file that is too small for two frames is not opened."""
    return [1 if plain and p.stat().st_size < 2 * frame_bytes else count_pages(p) for p in parts]
