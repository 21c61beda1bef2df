"""Files that microscopes write: channels, planes, positions and parts, through the command line."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from support.field_inputs import active_cells
from support.recordings import (
    bruker_cycles,
    interleaved_pages,
    named_images,
    ome_positions,
    scanimage,
    scanimage_parts,
    turn,
)
from support.tiny_bundle import tiny_bundle
from support.vendor_files import write_oib, write_scanbox, write_thorlabs

from . import Case, Outcome

__all__ = ["cases"]

Movie = npt.NDArray[Any]
Made = tuple[Path, dict[tuple[str, ...], Movie]]


def denoscope(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it printed."""
    from denoscope.acquisition.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def bundle(folder: Path) -> Path:
    """Return a tiny bundle whose answer is a weighted mean of frames."""
    path = folder / "tiny.denoscope"
    if not path.exists():
        tiny_bundle(path, intensity=None, calibration_frames=4)
    return path


def denoised(folder: Path, movie: Path, options: tuple[str, ...], number: int) -> Movie | str:
    """Return the denoised movie, or the sentence of the refusal."""
    output = folder / f"out{number}.ome.tif"
    code, _, err = denoscope(
        "denoise", movie, "--output", output, "--bundle", bundle(folder), "--quiet", *options
    )
    if code == 0:
        return np.asarray(tifffile.imread(output))
    return f"exit {code}: {' '.join(err.split())}"


def chosen_apart(make: Callable[[Path], Made], asks: str, folder: Path) -> Outcome:
    """Without a choice the command asks for it; with it the output shows that part and no other."""
    path, parts = make(folder)
    said = denoised(folder, path, (), 0)
    if not (isinstance(said, str) and said.startswith("exit 2") and f"--{asks}" in said):
        return Outcome(f"without a choice: {said if isinstance(said, str) else said.shape}", passed=False)
    for number, (options, right) in enumerate(parts.items(), start=1):
        got = denoised(folder, path, options, number)
        if isinstance(got, str):
            return Outcome(got, passed=False)
        if (
            got.shape != right.shape
            or abs(float(got.mean()) - float(right.mean())) > 0.05 * abs(float(right.mean())) + 1
        ):
            return Outcome(f"{' '.join(options)}: {got.shape}, mean {got.mean():.1f}", passed=False)
    means = ", ".join(f"{' '.join(o)} {m.mean():.0f}" for o, m in parts.items())
    return Outcome(f"asks for --{asks}; means {means}", passed=True)


def joined(make: Callable[[Path], tuple[Path, Movie]], folder: Path) -> Outcome:
    """All files of a recording are one movie."""
    path, right = make(folder)
    got = denoised(folder, path, (), 0)
    if isinstance(got, str):
        return Outcome(got, passed=False)
    good = got.shape == right.shape and bool(np.allclose(got.mean((1, 2)), right.mean((1, 2)), atol=15))
    return Outcome(f"{len(got)} of {len(right)} frames, in order: {good}", passed=good)


def recorded(kind: str, dtype: str, folder: Path) -> Outcome:
    """A signed or float movie is recorded bit for bit in a live session."""
    frames = active_cells(30, 64, 64)[1] - 150
    frames = (np.rint(frames) if dtype == "int16" else frames).astype(dtype)
    tifffile.imwrite(folder / "movie.tif", frames, photometric="minisblack")
    run = folder / "run"
    code, _, err = denoscope(
        *("live", "--core", f"{kind}:{folder / 'movie.tif'}", "--output", run, "--bundle", bundle(folder)),
        *("--idle-s", 0.8, "--fps", 200, "--no-picture", "--quiet", "--denoiser", "thread"),
    )
    if code != 0:
        return Outcome(f"exit {code}: {' '.join(err.split())}", passed=False)
    raw = tifffile.imread(run / "raw.tif")
    same = raw.dtype == frames.dtype and bool(np.array_equal(raw, frames))
    return Outcome(f"raw.tif {raw.dtype}, bit for bit: {same}", passed=same)


def watched(make: Callable[[Path], Made], folder: Path) -> Outcome:
    """A watched folder or file gives each channel a stream of its own."""
    path, parts = make(folder)
    code, out, err = denoscope(
        *("live", "--core", f"watch:{path}", "--output", folder / "run", "--bundle", bundle(folder)),
        *("--idle-s", 0.8, "--no-picture", "--quiet", "--json", "--denoiser", "thread"),
    )
    if code != 0:
        return Outcome(f"exit {code}: {' '.join(err.split())}", passed=False)
    counts = sorted(stream["received"] for stream in json.loads(out)["streams"])
    right = sorted(len(movie) for movie in parts.values())
    return Outcome(f"streams of {counts} frames", passed=counts == right)


def refused(write: Callable[[Path], Path], words: tuple[str, ...], folder: Path) -> Outcome:
    """A file that is not read gets one sentence with its format and the way out, and exit code 2."""
    said = denoised(folder, write(folder), (), 0)
    good = isinstance(said, str) and said.startswith("exit 2") and all(word in said for word in words)
    return Outcome(said[-150:] if isinstance(said, str) else f"opened: {said.shape}", passed=good)


def cut_short(folder: Path) -> Outcome:
    """A stack of ImageJ that lost its end is denoised to its last whole frame, with a sentence that says so."""
    path, frames = folder / "m.tif", turn(12, 1)[:, 0]
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    path.write_bytes(path.read_bytes()[:-5000])
    code, out, err = denoscope(
        *("denoise", path, "--output", folder / "out.tif", "--bundle", bundle(folder), "--no-picture")
    )
    said = " ".join((out + err).split())
    if code != 0:
        return Outcome(f"exit {code}: {said}", passed=False)
    count = len(tifffile.imread(folder / "out.tif"))
    named = f"was cut short: it ends after {count} of 12 frames" in said
    return Outcome(f"{count} of 12 frames, said: {named}", passed=named and count < 12)


def _positions(folder: Path, *, paged: bool, name: str) -> Made:
    movies = ome_positions(folder, paged=paged)
    return folder / name, {("--position", str(i)): m for i, m in enumerate(movies)}


def _cycles(folder: Path, *, first: bool, ome: bool = True) -> Made:
    (folder / "set").mkdir()
    movie = bruker_cycles(folder / "set", ome=ome)
    path = min((folder / "set").iterdir()) if first else folder / "set"
    return path, {("--plane", str(z)): movie[:, z] for z in range(movie.shape[1])}


def _named(folder: Path, pattern: str) -> Made:
    movie = named_images(folder / "images", pattern)
    return folder / "images", {("--channel", str(c)): movie[:, c] for c in range(movie.shape[1])}


def _scanimage(folder: Path, *, style: str) -> Made:
    movie = scanimage(folder / "s.tif", channels=2, style=style)
    return folder / "s.tif", {("--channel", str(c)): movie[:, 0, c] for c in range(2)}


def _volumes(folder: Path, *, written: bool) -> Made:
    movie = scanimage(folder / "s.tif", planes=3, flyback=1, flyback_written=written)
    return folder / "s.tif", {("--plane", str(z)): movie[:, z, 0] for z in range(3)}


def _hyperstack(folder: Path) -> Made:
    movie = turn(8, 2)
    tifffile.imwrite(folder / "h.tif", movie, imagej=True, metadata={"axes": "TCYX"})
    return folder / "h.tif", {("--channel", str(c)): movie[:, c] for c in range(2)}


def _interleaved(folder: Path) -> Outcome:
    movie = interleaved_pages(folder / "m.tif", 2)
    got = [
        denoised(folder, folder / "m.tif", ("--interleaved", "2", "--channel", str(c)), c) for c in range(2)
    ]
    good = all(not isinstance(g, str) and g.shape == movie[:, 0].shape for g in got)
    means = [g if isinstance(g, str) else f"{g.mean():.0f}" for g in got]
    return Outcome(f"means {' and '.join(means)}", passed=good and means[0] != means[1])


def _parts(folder: Path) -> tuple[Path, Movie]:
    (folder / "parts").mkdir()
    return folder / "parts", scanimage_parts(folder / "parts", frames=(6, 6, 3))[:, 0]


def _stacks(folder: Path) -> tuple[Path, Movie]:
    (folder / "parts").mkdir()
    movie = turn(15, 1)[:, 0]
    for number, begin in enumerate(range(0, 15, 5), start=9):
        tifffile.imwrite(
            folder / "parts" / f"m_{number}.tif", movie[begin : begin + 5], photometric="minisblack"
        )
    return folder / "parts", movie


def _bytes(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(b"\1\2\3\4" * 100)
    return folder / name


def _lost_part(folder: Path) -> Path:
    path, _ = _stacks(folder)
    (path / "m_11.tif").rename(path / "m_13.tif")
    (path / "m_12.tif").write_bytes((path / "m_10.tif").read_bytes())
    (path / "m_14.tif").write_bytes((path / "m_10.tif").read_bytes())
    return path


def _vendor(folder: Path, *, kind: str) -> Made:
    movie = turn(12, 2)[:, :2]
    parts: dict[tuple[str, ...], Movie] = {("--channel", str(c)): movie[:, c] for c in range(2)}
    if kind == "ThorImage":
        write_thorlabs(folder / "thor", movie[:, None])
        return folder / "thor", parts
    if kind == "Scanbox":
        return write_scanbox(folder / "m.sbx", movie[:, None]), parts
    return write_oib(folder / "m.oib", movie.swapaxes(0, 1)[:, None]), parts


def _time_last(folder: Path) -> Path:
    np.save(
        folder / "m.npy",
        np.ascontiguousarray(np.moveaxis(active_cells(90, 64, 64)[1], 0, -1).astype(np.uint16)),
    )
    return folder / "m.npy"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "m.tif")
    return folder / "m.tif"


_PATTERNS = {
    "ImageSequenceWriter": "{i:05d}_t{t:04d}_c{c:02d}.tif",
    "Micro-Manager images": "img_channel{c:03d}_position000_time{t:09d}_z000.tif",
    "Micro-Manager 1.4 images": "img_{t:09d}_{word}_000.tif",
    "Prairie _Ch1_": "TSeries-001_Cycle00001_Ch{c}_{t:06d}.tif",
    "_C1": "exp_C{c}_{t}.tif",
    "-ch01": "exp_{t:03d}-ch{c:02d}.tif",
    "MetaMorph": "exp_w{c}DAPI_t{t}.tif",
    "names of dyes": "{word}_{t:03d}.tif",
}


def cases() -> list[Case]:
    """Return the cases of recordings as microscopes write them."""
    found: list[Case] = []

    def add(name: str, right: str, run: Callable[[Path], Outcome]) -> None:
        found.append(Case("readers", name, right, run))

    for kind in ("replay", "watch"):
        for dtype in ("int16", "float32"):
            add(f"02 {dtype} {kind}", "raw bit for bit", partial(recorded, kind, dtype))
    for style, pattern in _PATTERNS.items():
        make = partial(_named, pattern=pattern)
        add(f"03 {style}", "asks for --channel", partial(chosen_apart, make, "channel"))
        add(f"03 {style}, watch", "a stream a channel", partial(watched, make))
    for paged in (False, True):
        for name in ("a.ome.tif", "b.ome.tif"):
            make = partial(_positions, paged=paged, name=name)
            add(
                f"04 {'paged' if paged else 'contiguous'} {name}",
                "position 0 mean 30, 1 mean 200",
                partial(chosen_apart, make, "position"),
            )
    for first in (True, False):
        make = partial(_cycles, first=first)
        add(
            f"05 {'first file' if first else 'folder'}",
            "3 frames x 2 planes",
            partial(chosen_apart, make, "plane"),
        )
    make = partial(_cycles, first=False, ome=False)
    add("05 folder without OME-XML", "3 frames x 2 planes", partial(chosen_apart, make, "plane"))
    for style in ("2016", "5", "4"):
        make = partial(_scanimage, style=style)
        add(f"ScanImage {style}", "asks for --channel", partial(chosen_apart, make, "channel"))
    for written in (True, False):
        make = partial(_volumes, written=written)
        add(
            f"ScanImage volumes, flyback {'written' if written else 'left out'}",
            "asks for --plane",
            partial(chosen_apart, make, "plane"),
        )
    add("ImageJ hyperstack", "asks for --channel", partial(chosen_apart, _hyperstack, "channel"))
    add("ImageJ hyperstack, watch", "a stream a channel", partial(watched, _hyperstack))
    add("--interleaved", "two means", _interleaved)
    add("ScanImage parts", "one movie of 15 frames", partial(joined, _parts))
    add("folder of stacks", "one movie of 15 frames", partial(joined, _stacks))
    add("folder of stacks, one missing", "refused", partial(refused, _lost_part, ("lacks part 11",)))
    for ending, word in (
        ("nd2", "Nikon"), ("czi", "Zeiss"), ("lif", "Leica"), ("oib", "Olympus"), ("avi", "AVI"), ("mkv", "Matroska"),
        ("raw", "raw"), ("sbx", "Scanbox"), ("isxd", "Inscopix"), ("mat", "MATLAB"), ("mmap", "CaImAn"), ("vsi", "VSI"),
        ("bin", "suite2p"), ("lsm", "LSM"),
    ):  # fmt: skip
        add(
            f"09 {ending}",
            "named, and the way out",
            partial(refused, partial(_bytes, name=f"m.{ending}"), (word,)),
        )
    for kind in ("ThorImage", "Scanbox", "OIB"):
        make = partial(_vendor, kind=kind)
        add(kind, "asks for --channel", partial(chosen_apart, make, "channel"))
    add("ImageJ stack without its end", "10 whole frames of 12, said", cut_short)
    add("array with time last", "refused, with the way", partial(refused, _time_last, ("moveaxis",)))
    if hasattr(os, "mkfifo"):
        add("pipe", "refused before reading", partial(refused, _pipe, ("pipe",)))
    return found
