"""Names of files: the channel, plane and position that each shows, and their order in time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import gcd
from pathlib import Path

__all__ = [
    "Named",
    "NamedFiles",
    "is_beside",
    "missing_numbers",
    "natural_order",
    "other_parts",
    "sort_names",
    "stream_of_name",
]

# The word before a number, and what the number counts.
_WORDS = {
    "channel": "channel", "chan": "channel", "chn": "channel", "ch": "channel", "c": "channel", "w": "channel",
    "z": "plane", "slice": "plane", "plane": "plane", "focus": "plane", "zslice": "plane",
    "t": "time", "time": "time", "timepoint": "time", "tp": "time", "frame": "time", "f": "time",
    "position": "position", "pos": "position", "xy": "position", "stage": "position", "site": "position",
    "fov": "position", "tile": "position", "series": "position", "well": "position",
    "p": "position", "s": "position", "m": "position",
    "cycle": "cycle",
}  # fmt: skip
_MOST_CHANNELS = 16
_BEFORE_A_SIGN = ("", "_", "=", " ", "(")
_SHORT_POSITION = {"p", "s", "m"}
_NUMBER = re.compile(r"([A-Za-z]*)([-_= ]?)(\d+)")
_LETTER_CHANNEL = re.compile(r"(?:^|(?<=[^A-Za-z]))(Chan)([A-D])(?=[^A-Za-z]|$)")
_STAMP = re.compile(
    r"(?<!\d)(?:19|20)\d{2}[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
    r"(?:[-_. T]?\d{2}[-_.:h]?\d{2}([-_.:m]?\d{2})?([-_.]\d{3,6})?)?(?!\d)"
)
_CLOCK = re.compile(r"(?<!\d)(?:[01]\d|2[0-3])[-:.h][0-5]\d[-:.m][0-5]\d(?:[-.]\d{3,6})?(?!\d)")
_SCANIMAGE = re.compile(r"^(.*)_(\d{5})_(\d{5})$")
_MICRO_MANAGER_1 = re.compile(r"^img_(\d{9})_(.*)_(\d{3})$")
# ``img_1.tmp.tif``, and not ``img_1_temp.tif`` or ``cell-part.tif``, whose words may be channels.
_UNFINISHED = re.compile(r"\.(?:te?mp|part|partial)(?:\.\w+)?$", re.IGNORECASE)
# ``scan_00001_00002.tif``, ``T_Cycle00002_Ch1_000001.ome.tif`` and ``x_MMStack_Pos0_1.ome.tif``, up to the part.
_PARTS = (
    (re.compile(r"(.*_\d{5}_)\d{5}\.tiff?", re.IGNORECASE), r"\d{5}\.tiff?"),
    (
        re.compile(r"(.*_Cycle)\d{5}_Ch\d+_\d{6}(?:\.ome)?\.tiff?", re.IGNORECASE),
        r"\d{5}_Ch\d+_\d{6}(?:\.ome)?\.tiff?",
    ),
    (
        re.compile(
            r"(.*_(?:MMStack|NDTiffStack)(?:_\D[^.]*?)??)(?:_[1-9]\d*)?(?:\.ome)?\.tiff?", re.IGNORECASE
        ),
        r"(?:_[1-9]\d*)?(?:\.ome)?\.tiff?",
    ),
)
_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|png|btf|tf8|avi|mkv|mp4|mov)$", re.IGNORECASE)


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``frame_2`` before ``frame_10``."""
    return [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)
    ]


def is_beside(name: str) -> bool:
    """Say whether a file is none of the images, by its name: hidden, or named as files are while they are written."""
    return name[0] in ".~" or bool(_UNFINISHED.search(name))


def other_parts(path: Path) -> int:
    """Return how many files beside this one have its name with the number of another part.

    Knows the names of ScanImage, Prairie View and Micro-Manager.
    """
    for pattern, part in _PARTS:
        if match := pattern.fullmatch(path.name):
            others = re.compile(re.escape(match[1]) + part, re.IGNORECASE)
            return sum(o.name != path.name and bool(others.fullmatch(o.name)) for o in path.parent.iterdir())
    return 0


@dataclass(frozen=True, slots=True)
class _Field:
    """One number in a name: what it counts, its value, the text it is written as, and where it stands."""

    kind: str
    value: int
    label: str
    word: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A name: its text without numbers, and its numbers in order."""

    template: str
    fields: tuple[_Field, ...]


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name)


def _parse(name: str) -> _Parsed:
    stem = _stem(name)
    found: list[_Field] = []
    if match := _MICRO_MANAGER_1.match(stem):
        for kind, group in (("time", 1), ("plane", 3)):
            found.append(_Field(kind, int(match[group]), match[group], "img", *match.span(group)))
        return _Parsed(f"img_#_{match[2]}_#", tuple(found))
    taken = [match.span() for match in _STAMP.finditer(stem)]
    taken += [m.span() for m in _CLOCK.finditer(stem) if not any(a <= m.start() < b for a, b in taken)]
    for start, stop in taken:
        digits = int("".join(c for c in stem[start:stop] if c.isdigit()))
        found.append(_Field("stamp", digits, stem[start:stop], "", start, stop))
    for match in _LETTER_CHANNEL.finditer(stem):
        found.append(_Field("channel", ord(match[2]) - 65, match[0], "chan", *match.span()))
        taken.append(match.span())
    for match in _NUMBER.finditer(stem):
        start, stop = match.span(3)
        if any(a < stop and start < b for a, b in taken):
            continue
        word, label = match[1].lower(), match[1] + match[2] + match[3]
        # A word that is only the end of another, like the "s" of "cells1", says nothing.
        apart = match.start() == 0 or not stem[match.start() - 1].isalpha()
        long_enough = not match[2] or len(word) > 2
        kind = _WORDS.get(word, "number") if apart and long_enough else "number"
        if kind == "channel" and word == "w":
            tail = re.match(r"[A-Za-z][A-Za-z0-9]*", stem[stop:])
            label += tail[0] if tail else ""
            stop += len(tail[0]) if tail else 0
            if tail:
                taken.append((start, stop))
        value = int(match[3])
        if match[2] == "-" and not word and stem[match.start() - 1 : match.start()] in _BEFORE_A_SIGN:
            start, value = start - 1, -value
        found.append(_Field(kind, value, label if kind != "number" else stem[start:stop], word, start, stop))
    found.sort(key=lambda field: field.start)
    template, at = [], 0
    for field in found:
        template += [stem[at : field.start], "#"]
        at = field.stop
    return _Parsed("".join([*template, stem[at:]]), tuple(found))


@dataclass(frozen=True, slots=True)
class Named:
    """Place of one file in the movie."""

    name: str
    channel: str
    plane: str
    position: str
    time: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """Places of all files of a folder, by their names.

    Attributes
    ----------
    files
        Every file, in the order of time.
    channels, planes, positions
        Labels of each, in order; one where the names tell no difference.
    unclear
        Cycles and images of a cycle where nothing says whether a cycle is a stack or a time series, else None.
    firsts
        Files without a number that count as the one before the lowest number.
    twins
        Two files whose names have the same numbers, written differently (``img_1`` and ``img_01``); else None.
    """

    files: tuple[Named, ...]
    channels: tuple[str, ...]
    planes: tuple[str, ...]
    positions: tuple[str, ...]
    unclear: tuple[int, int] | None = None
    firsts: tuple[str, ...] = ()
    twins: tuple[str, str] | None = None


def sort_names(names: Sequence[str], *, cycle_is: str | None = None) -> NamedFiles:
    """Return where the files of a folder belong, by their names.

    Parameters
    ----------
    names
        File names, of one kind of images.
    cycle_is
        Kind of the numbered images of a Prairie View cycle, if its metadata say it: ``plane`` or ``time``.
    """
    parsed = {name: _parse(name) for name in names}
    if len({_stem(name) for name in names}) < len(names):
        # ``movie.tif`` and ``movie.ome.tif`` are two movies.
        parsed = {
            name: _Parsed(each.template + name[len(_stem(name)) :].lower(), each.fields)
            for name, each in parsed.items()
        }
    firsts = _join_first_parts(parsed)
    words = _word_axis({p.template for p in parsed.values()}, parsed)
    groups: dict[str, list[str]] = {}
    for name, each in parsed.items():
        groups.setdefault(words[1].get(each.template, each.template), []).append(name)
    many = len(groups) > 1
    shown = {template: _shown(template) for template in groups}
    if len(set(shown.values())) < len(shown):
        shown = {template: template.replace("#", "...") for template in groups}
    files: list[Named] = []
    unclear = twins = None
    for template, members in groups.items():
        members.sort(key=natural_order)
        _take_hyphens_for_signs_only_where_they_are(members, parsed)
        twins = twins or _twins(members, parsed)
        placed, cycles = _place(members, parsed, cycle_is)
        unclear = unclear or cycles
        for name, (channel, plane, position, time) in placed.items():
            word = words[0].get(parsed[name].template, "")
            where = " ".join(filter(None, (shown[template] if many else "", position)))
            files.append(Named(name, " ".join(filter(None, (word, channel))), plane, where, time))
    files.sort(key=lambda f: (f.time, natural_order(f.name)))

    def labels(axis: str) -> tuple[str, ...]:
        return tuple(sorted({getattr(f, axis) for f in files}, key=natural_order))

    return NamedFiles(
        tuple(files), labels("channel"), labels("plane"), labels("position"), unclear, firsts, twins
    )


def _take_hyphens_for_signs_only_where_they_are(names: list[str], parsed: dict[str, _Parsed]) -> None:
    """Count ``img_-1``, ``img_-2`` upwards: only where other names have a number without a minus is it a sign."""
    columns = zip(*(parsed[name].fields for name in names), strict=True)
    hyphens = [all(field.label.startswith("-") for field in column) for column in columns]
    for name in names if any(hyphens) else ():
        fields = zip(parsed[name].fields, hyphens, strict=True)
        kept = tuple(replace(field, value=abs(field.value)) if hyphen else field for field, hyphen in fields)
        parsed[name] = replace(parsed[name], fields=kept)


def _twins(names: list[str], parsed: dict[str, _Parsed]) -> tuple[str, str] | None:
    """Return two names with the same numbers, which only differ in the zeros before them."""
    known: dict[tuple[str, tuple[tuple[int, str], ...]], str] = {}
    for name in names:
        numbers = tuple((field.value, field.label.lstrip("-0123456789")) for field in parsed[name].fields)
        if (other := known.setdefault((parsed[name].template, numbers), name)) != name:
            return other, name
    return None


def _join_first_parts(parsed: dict[str, _Parsed]) -> tuple[str, ...]:
    """Count ``movie.tif`` as the first of ``movie_1.tif``, ``movie_2.tif``, and return such names."""
    firsts = []
    by_template: dict[str, list[str]] = {}
    for name, each in parsed.items():
        by_template.setdefault(each.template, []).append(name)
    for longer, members in by_template.items():
        tail = re.search(r"[-_. ](?:[A-Za-z]|file|part)?#$|@#$", longer, re.IGNORECASE)
        base = longer[: tail.start()] if tail else ""
        for name in by_template.get(base, ()):
            stem = _stem(name)
            after = [parsed[m].fields[-1] for m in members if _stem(m).startswith(stem)]
            if after:
                first = min(after, key=lambda field: field.value)
                at = len(stem)
                zero = _Field(first.kind, first.value - 1, "", first.word, at, at)
                parsed[name] = _Parsed(longer, (*parsed[name].fields, zero))
                firsts.append(name)
    return tuple(firsts)


def _shown(template: str) -> str:
    return re.sub(r"[-_. ]*#", "", template).strip("-_. ") or "images"


def _word_axis(templates: set[str], parsed: dict[str, _Parsed]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the word in which templates differ, where it is one word and each has the same numbers.

    ``img_#_Cy5_#`` and ``img_#_DAPI_#`` are two channels; ``dark`` and ``img_#`` are two recordings.
    """
    if not 1 < len(templates) <= 8:
        return {}, {}
    split = {t: re.split(r"([-_. ])", t) for t in templates}
    if len({len(s) for s in split.values()}) > 1 or not all("#" in t for t in templates):
        return {}, {}
    length = len(next(iter(split.values())))
    differ = [i for i in range(length) if len({s[i] for s in split.values()}) > 1]
    if len(differ) != 1 or any("#" in s[differ[0]] for s in split.values()):
        return {}, {}
    counts = Counter(p.template for p in parsed.values())
    if len(set(counts.values())) > 1 or min(counts.values()) < 2:
        return {}, {}
    at = differ[0]
    common = {t: "".join([*s[:at], "*", *s[at + 1 :]]) for t, s in split.items()}
    return {t: s[at] for t, s in split.items()}, common


_Place = tuple[str, str, str, tuple[int, ...]]


def _place(
    names: list[str], parsed: dict[str, _Parsed], cycle_is: str | None
) -> tuple[dict[str, _Place], tuple[int, int] | None]:
    """Return channel, plane, position and time of files whose names differ in numbers only."""
    rows = [parsed[name].fields for name in names]
    columns = list(zip(*rows, strict=True))
    kinds = [column[0].kind for column in columns]
    varying = [i for i, column in enumerate(columns) if len({(f.value, f.label) for f in column}) > 1]
    scanimage = all(_SCANIMAGE.match(_stem(name)) for name in names) and len(columns) >= 2
    roles = {i: kinds[i] for i in varying}
    unclear = None
    # One letter before the only number that changes, as in s0001: an image of a series, not a position.
    if len(varying) == 1 and columns[varying[0]][0].word in _SHORT_POSITION and len(names) > 2:
        roles[varying[0]] = "time"
    # More channels than microscopes have are images of a series, as in c0001.
    if len(varying) == 1 and roles[varying[0]] == "channel" and len(names) > _MOST_CHANNELS:
        roles[varying[0]] = "time"
    if scanimage and roles.get(len(columns) - 2) == "number":
        roles[len(columns) - 2] = "position"
    numbers = [i for i in varying if roles[i] == "number"]
    _mark_recordings(columns, roles, numbers)
    timed = any(roles[i] in ("time", "stamp") for i in varying)
    unique = [i for i in numbers if len({f.value for f in columns[i]}) == len(names)]
    if unique and {roles[i] for i in varying} <= {"stamp", "number"}:
        # Where a counter and a clock agree, the counter also tells what is missing.
        stamps = [i for i in varying if roles[i] == "stamp"]
        by_number = sorted(rows, key=lambda row: row[unique[-1]].value)
        if stamps and all(a[i].value <= b[i].value for a, b in pairwise(by_number) for i in stamps):
            roles.update(dict.fromkeys(stamps, "order"))
            timed = False
    cycles = next((i for i in varying if roles[i] == "cycle"), None)
    thorlabs = kinds.count("number") >= 4 and any(f.word == "chan" for f in rows[0])
    if thorlabs:
        last = [i for i, kind in enumerate(kinds) if kind == "number"][-4:]
        for i, role in zip(last, ("position", "position", "plane", "time"), strict=True):
            if i in roles:
                roles[i] = role
    elif cycle_is == "plane" and cycles is None and "cycle" in kinds and numbers:
        roles[numbers[-1]] = "plane"
    elif cycles is not None and numbers:
        roles[cycles] = "time"
        if cycle_is is None:
            unclear = len({f.value for f in columns[cycles]}), len({f.value for f in columns[numbers[-1]]})
        roles[numbers[-1]] = "plane" if cycle_is == "plane" else "time"
        for i in numbers[:-1]:
            roles[i] = "position"
    elif timed:
        for i in numbers:
            roles[i] = "order" if i in unique else "position"
    elif unique:
        for i in numbers:
            roles[i] = "time" if i == unique[-1] else "order"
    elif numbers:
        for i in numbers:
            roles[i] = "time" if i == numbers[-1] else "position"
    if cycles is not None and roles.get(cycles) == "cycle":
        roles[cycles] = "time"
    return _by_role(names, rows, {i: roles[i] for i in varying}), unclear


def _by_role(
    names: Sequence[str], rows: Sequence[Sequence[_Field]], roles: dict[int, str]
) -> dict[str, _Place]:
    """Return channel, plane, position and time of each file, from the roles of the numbers in its name."""
    placed: dict[str, _Place] = {}
    for name, row in zip(names, rows, strict=True):
        labels = {
            kind: "_".join(row[i].label for i, role in roles.items() if role == kind)
            for kind in ("channel", "plane", "position")
        }
        # The zero behind a stamp keeps it from being taken for a counter: after 12:59 comes 13:00.
        time = tuple(
            n
            for i, role in roles.items()
            if role in ("time", "stamp")
            for n in ((row[i].value, 0) if role == "stamp" else (row[i].value,))
        )
        placed[name] = labels["channel"], labels["plane"], labels["position"], time
    return placed


def _mark_recordings(
    columns: Sequence[tuple[_Field, ...]], roles: dict[int, str], numbers: Sequence[int]
) -> None:
    """Take stamps that several images share, each with the same numbers again, for the starts of recordings."""
    stamps = [i for i, role in roles.items() if role == "stamp"]
    if not stamps or not numbers:
        return

    def places(of: Sequence[int]) -> set[tuple[str, ...]]:
        return set(zip(*([field.label for field in columns[i]] for i in of), strict=True))

    told = [i for i, role in roles.items() if role in ("channel", "plane", "position", "time", "cycle")]
    images = len(places([*roles]))
    if len(places([*stamps, *told])) < images and len(places([*numbers, *told])) < images:
        roles.update(dict.fromkeys(stamps, "position"))


def missing_numbers(times: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the numbers that a series leaves out, where one number counts it and steps are even."""
    if len({len(t) for t in times}) != 1 or len(times[0]) != 1 or len(times) < 3:
        return []
    values = sorted({t[0] for t in times})
    steps = [b - a for a, b in pairwise(values)]
    if not steps:
        return []
    usual = Counter(steps).most_common(1)[0]
    step = usual[0] if usual[1] > len(steps) / 2 else gcd(*steps)
    if usual[1] <= len(steps) / 2 or any(s % step for s in steps):
        return []
    present = set(values)
    return [n for n in range(values[0], values[-1], step) if n not in present][:100_000]


@lru_cache(maxsize=4096)
def stream_of_name(name: str) -> tuple[tuple[str, str, str], str]:
    """Return the channel, plane and position that the name of one file tells, and the rest of the name.

    Of a growing folder nobody knows which numbers will change; so only words that leave no doubt count.
    """
    parsed = _parse(name)
    stem = _stem(name)
    if match := _MICRO_MANAGER_1.match(stem):
        return (match[2], match[3], ""), f"img_{match[1]}"
    said = {"channel": "", "plane": "", "position": ""}
    rest, at = [], 0
    for field in parsed.fields:
        sure = field.word not in _SHORT_POSITION and (field.kind != "channel" or field.value < _MOST_CHANNELS)
        if field.kind in said and sure and not said[field.kind]:
            said[field.kind] = field.label
            rest.append(stem[at : field.start])
            at = field.stop
    left = "".join([*rest, stem[at:]])
    if not any(c.isdigit() for c in left) and not said["channel"]:
        return ("", "", ""), stem  # the only number counts the images
    return (said["channel"], said["plane"], said["position"]), left
