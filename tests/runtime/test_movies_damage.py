"""Damaged movies: thousands of broken headers, and none crashes, hangs, or takes more memory than its limit."""

from __future__ import annotations

import gc
import json
import random
import shutil
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.runtime import InvalidInput, open_movie
from support.movie_files import CHAINS, CHANNELS, STACKS, write_chain, write_ndtiff

LIMIT_BYTES = 16_000_000
SLACK_BYTES = 4_000_000  # what parsers and tables may take beside the pixels
LONGEST_S = 5.0
SMALL = np.random.default_rng(3).integers(0, 999, (6, 32, 32)).astype(np.uint16)

# Numbers that headers are broken with: none, one, limits of their types, more than any file has.
NUMBERS = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 10**9)


def tiff_seeds(folder: Path) -> list[tuple[bytes, list[int]]]:
    """Return small valid TIFF files of every kind with the bytes where their directories begin."""
    kinds: dict[str, dict[str, object]] = {
        "shaped": {},
        "bigtiff": {"bigtiff": True},
        "big-endian": {"byteorder": ">"},
        "zlib": {"compression": "zlib"},
        "lzw": {"compression": "lzw", "predictor": True, "rowsperstrip": 9},
        "ome": {"ome": True},
        "ome zlib": {"ome": True, "compression": "zlib", "bigtiff": True},
        "imagej": {"imagej": True},
        "tiles": {"tile": (16, 16), "compression": "zlib"},
    }
    paths = [write_chain(folder / "pages.tif", SMALL)]
    paths.append(write_chain(folder / "pages big.tif", SMALL, bigtiff=True))
    for kind, options in kinds.items():
        paths.append(folder / f"{kind}.tif")
        metadata = None if kind == "imagej" else {"axes": "TYX"}
        tifffile.imwrite(paths[-1], SMALL, photometric="minisblack", metadata=metadata, **options)
    seeds = []
    for path in paths:
        with tifffile.TiffFile(path) as tif:
            seeds.append((path.read_bytes(), [page.offset for page in tif.pages]))
    return seeds


def broken(data: bytes, places: list[int], rng: random.Random) -> bytes:
    """Return the file with one to six of its bytes, numbers or digits changed, or cut short."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.choice(
            [rng.randrange(16), rng.choice(places) + rng.randrange(320), rng.randrange(len(data))]
        )
        how = rng.random()
        if how < 0.4:
            value = rng.choice([*NUMBERS, len(data), rng.getrandbits(32)])
            changed[at : at + 4] = value.to_bytes(4, rng.choice(["little", "big"]))
        elif how < 0.5:
            digits = [i for i in range(len(changed)) if 48 <= changed[i] < 58]
            at = rng.choice(digits) if digits else at
            changed[at : at + 1] = str(rng.choice([0, 9, 10**6, 10**9, 10**15])).encode()
        else:
            changed[at : at + 1] = bytes([rng.choice([0, 1, 255, rng.randrange(256)])])
    return bytes(changed[: rng.randrange(1, len(changed))] if rng.random() < 0.05 else changed)


class Watch:
    """Open damaged movies and hold each to the promise."""

    def __init__(self) -> None:
        self.opened = self.refused = 0

    def __call__(self, path: Path) -> None:
        tracemalloc.reset_peak()
        before, started = tracemalloc.get_traced_memory()[0], time.perf_counter()
        message = None
        try:
            movie = open_movie(path, channel=0, limit_bytes=LIMIT_BYTES)
            np.asarray(movie[0])
            np.asarray(movie[len(movie) - 1])
        except InvalidInput as error:
            message = str(error)
        assert time.perf_counter() - started < LONGEST_S
        assert tracemalloc.get_traced_memory()[1] - before < LIMIT_BYTES + SLACK_BYTES
        if message is None:
            self.opened += 1
        else:
            self.refused += 1
            assert "\n" not in message
            assert str(path) in message


@pytest.fixture
def watch() -> Iterator[Watch]:
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that overflow; said in the error, if they matter
        yield Watch()
        gc.collect()  # tifffile leaves files of a damaged set open until then
    tracemalloc.stop()


def break_tiffs(folder: Path, watch: Watch, count: int, seed: int) -> None:
    seeds, rng = tiff_seeds(folder), random.Random(seed)
    path = folder / "broken.tif"
    for _ in range(count):
        path.write_bytes(broken(*rng.choice(seeds), rng))
        watch(path)
    assert watch.opened > 0.05 * count, "the damage is too great to test more than the first check"
    assert watch.refused > 0.3 * count


def test_some_broken_tiff_headers(tmp_path: Path, watch: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    break_tiffs(tmp_path, watch, 250, seed=0)
    assert capfd.readouterr().err == "", "what libraries think of a damaged file is no concern of the user"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_five_thousand_broken_tiff_headers(tmp_path: Path, watch: Watch, seed: int) -> None:
    break_tiffs(tmp_path, watch, 1000, seed)


@pytest.mark.parametrize(
    "kind", ["ome-zarr 0.4", "ome-zarr 0.5", "ndtiff", "ome of several files", "png files"]
)
def test_broken_folders(tmp_path: Path, watch: Watch, kind: str) -> None:
    rng = random.Random(kind)
    whole = (STACKS | CHAINS)[kind](tmp_path)
    folder = whole if whole.is_dir() else whole.parent
    copy = tmp_path.parent / f"{tmp_path.name}-broken"
    for _ in range(12 if "zarr" in kind else 25):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        files = sorted(p for p in copy.rglob("*") if p.is_file())
        small = [p for p in files if p.suffix in (".json", ".index", ".tif") or p.name.startswith(".z")]
        file = rng.choice(small if small and rng.random() < 0.8 else files)
        data = file.read_bytes()
        if rng.random() < 0.1:
            file.unlink()
        else:
            file.write_bytes(broken(data, [rng.randrange(max(1, len(data)))], rng))
        watch(copy if whole.is_dir() else copy / whole.name)
    assert watch.refused > 3


DAMAGE_HDF5 = """
import sys, random
from pathlib import Path
sys.path[:0] = {paths!r}
from runtime.test_movies_damage import Watch, broken
import tracemalloc
tracemalloc.start()
watch, rng = Watch(), random.Random(5)
data, path = Path({whole!r}).read_bytes(), Path({copy!r})
for _ in range(150):
    path.write_bytes(broken(data, [rng.randrange(len(data) // 2)], rng))
    watch(path)
print(watch.opened, watch.refused)
"""


def test_broken_hdf5(tmp_path: Path) -> None:
    """In a separate process: the library is C, and a crash would take the tests with it."""
    whole = CHAINS["hdf5"](tmp_path)
    code = DAMAGE_HDF5.format(paths=sys.path, whole=str(whole), copy=str(tmp_path / "broken.h5"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    opened, refused = map(int, done.stdout.split())
    assert opened > 5
    assert refused > 30


def claim(folder: Path, kind: str) -> Path:
    """Return a small file that claims to be large."""
    many = 999_999_999
    says = {
        "planes": '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image '
        'ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="32" SizeZ="1" '
        f'SizeC="1" SizeT="{many}"><Channel ID="Channel:0:0"/><TiffData/></Pixels></Image></OME>',
        "imagej": f"ImageJ=1.54f\nimages={many}\nframes={many}\n",
        "shaped": json.dumps({"shape": [many, 32, 32]}),
    }
    path = folder / f"{kind}.tif"
    if kind in says:
        tifffile.imwrite(path, SMALL, photometric="minisblack", metadata=None, description=says[kind])
    elif kind == "bomb":
        zeros = np.zeros((12, 2896, 2896), np.uint16)
        tifffile.imwrite(path, zeros, photometric="minisblack", compression="zlib")
    else:
        write_chain(path, SMALL, tile=(16, 16), compression="zlib")
        with tifffile.TiffFile(path, mode="r+") as tif:
            for page in tif.pages:
                page.tags["TileWidth"].overwrite(60_000)
                page.tags["TileLength"].overwrite(60_000)
    return path


@pytest.mark.parametrize("kind", ["planes", "imagej", "shaped", "bomb", "tiles"])
def test_small_files_that_claim_to_be_large(tmp_path: Path, watch: Watch, kind: str) -> None:
    path = claim(tmp_path, kind)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(InvalidInput, match=r"claims|lists .* planes|frame or chunk|was cut short"):
        np.asarray(open_movie(path))  # with the limit as it is by default
    assert tracemalloc.get_traced_memory()[1] - before < SLACK_BYTES


def test_a_chunk_that_claims_to_be_large(tmp_path: Path, watch: Watch) -> None:
    path = STACKS["ome-zarr 0.5"](tmp_path)
    meta = path / "0" / "zarr.json"
    said = json.loads(meta.read_text())
    said["chunk_grid"]["configuration"]["chunk_shape"] = [3, 1, 60_000, 60_000]
    meta.write_text(json.dumps(said))
    with pytest.raises(InvalidInput, match="single frame or chunk"):
        open_movie(path, channel=0)


def test_an_index_that_leads_out_of_its_folder(tmp_path: Path) -> None:
    folder = write_ndtiff(tmp_path)
    index = folder / "NDTiff.index"
    index.write_bytes(index.read_bytes().replace(b"x_NDTiffStack.tif", b"../../etc/pass_wd"))
    with pytest.raises(InvalidInput, match="not beside it"):
        open_movie(folder, channel=CHANNELS[0])
