"""Commands and programs of README.md and docs/: find them, check them, run them in order as a reader would.

The word after the three backticks says what a block is: `sh` is commands for every shell; `bash`, `powershell` and
`bat` are commands for that one; `console` is commands after `$ ` and below each what it prints, with other numbers;
`python` is a program; `text` is what a command of the page prints, with other numbers. A comment before the block
says what else to know:

    <!-- walk: not run: REASON -->
    <!-- walk: while COMMAND -->

`python -m support.guides [--fresh] [PAGE...]` in `tests/` runs them; `--fresh` makes a new environment,
installs into it what the pages install, and runs each command at full length. Otherwise movies
and times are cut (`_SHORTER`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Self

import numpy as np
import tifffile

from acquisition.bridge_peer import Peer

__all__ = [
    "ROOT",
    "SHELLS",
    "Block",
    "Walk",
    "blocks_of",
    "commands_in",
    "groups",
    "pages",
    "walk",
    "words_of",
]

ROOT = Path(__file__).resolve().parents[2]
SHELLS = ("sh", "bash", "powershell", "bat", "console")
_KINDS = {*SHELLS, "python", "text", "mermaid", "{ .python }"}
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)``` *$",
    flags=re.MULTILINE | re.DOTALL,
)
_PROGRAMS = re.compile(r"(?:\$ )?(denoscope|python3?|py|pip|dask|git|ssh) ")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page and line, the word after the backticks, its text, and the comment before it."""

    page: Path
    line: int
    kind: str
    text: str
    not_run: str | None = None
    meanwhile: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    """Return README.md and the pages of the site in its order, without the decisions."""
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"^ +- [^\n]*?: (\S+\.md)$", site, flags=re.MULTILINE)
    return [
        ROOT / "README.md",
        *(ROOT / "docs" / name for name in named if not name.startswith("decisions/")),
    ]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order; ValueError where a block or its mark is of no known kind."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("kind")) + 1
        kind = match["kind"].strip()
        if kind not in _KINDS:
            raise ValueError(f"{page.name}:{line}: {kind!r} is none of {', '.join(sorted(_KINDS))}")
        known: dict[str, str] = {}
        if (match["mark"] or "").startswith("walk:"):
            mark = re.fullmatch(r"walk: (?:not run: (?P<not_run>.+)|while (?P<meanwhile>.+))", match["mark"])
            if mark is None:
                raise ValueError(
                    f"{page.name}:{line}: {match['mark']!r} says neither 'not run: …' nor 'while …'"
                )
            known = {name: value for name, value in mark.groupdict().items() if value}
        elif match["mark"] == "test":
            known = {"not_run": "`.ci/run` runs it"}
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(page, line, kind, body, **known))
    return found


def commands_in(block: Block) -> list[str]:
    """Return the command lines of a block; [] where it holds none."""
    lines = [line.strip() for line in block.text.splitlines() if line.strip()]
    if block.kind == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    if block.kind in SHELLS:
        return lines
    return [line for line in lines if block.kind == "text" and _PROGRAMS.match(line)]


def words_of(command: str) -> list[str]:
    """Return the words of a command line, without the shell's quotes."""
    return shlex.split(command)


# Added to a command where time matters; the last of two equal options counts.
_SHORTER = {
    "demo": "--seconds 1",
    "live": "--frames 20",
    "denoise": "--frames 0:12",
    "train": "--minutes 0.05 --frames 0:40",
    "evaluate": "--frames 0:24",
    "bench": "--size 64x64 --frames 8 --no-highest-rate",
}
_MODULES = {"denoscope": "denoscope.acquisition.cli.app", "dask": "dask"}
_SERVERS = ("dask ",)
"""Commands that end only when they are ended: they run beside all others of their page."""
_PATIENCE_S = 600


def _frames(count: int = 40, height: int = 64, width: int = 80) -> np.ndarray:
    """Return frames of still discs of which some flash, with the noise of a camera."""
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[:height, :width]
    light = np.full((count, height, width), 20.0)
    for row, column in random.integers(8, (height - 8, width - 8), (12, 2)):
        flash = 1 + np.convolve(random.random(count) < 0.05, np.exp(-np.arange(12) / 4))[:count]
        light += 30 * flash[:, None, None] * ((rows - row) ** 2 + (columns - column) ** 2 < 16)
    return np.asarray(100 + 2 * random.poisson(light), np.uint16)


def _movie(path: Path) -> None:
    tifffile.imwrite(path, _frames())


def _two_channels(path: Path) -> None:
    frames = _frames().reshape(20, 2, 64, 80)
    tifffile.imwrite(path, frames, ome=True, metadata={"axes": "TCYX", "Channel": {"Name": ["GFP", "RFP"]}})


def _no_axes(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["frames"] = np.random.default_rng(1).poisson(200, (64, 64, 100)).astype(np.uint16)


def _camera_map(path: Path) -> None:
    from scipy.io import savemat

    value = 2.0 if path.stem == "gain" else 100.0
    savemat(path, {path.stem: np.full((64, 80), value)})


def _cells(path: Path) -> None:
    import roifile

    corners = [[[4, 4], [16, 4], [16, 16], [4, 16]], [[20, 20], [32, 20], [32, 32], [20, 32]]]
    rois = [roifile.ImagejRoi.frompoints(np.array(each), name=f"cell-{n}") for n, each in enumerate(corners)]
    roifile.roiwrite(path, [*rois, roifile.ImagejRoi.frompoints(np.array(corners[1]) + 4, name="cell-3")])


def _bundle(path: Path) -> None:
    shutil.copytree(ROOT / "runtime/denoscope/runtime/bundles/live-fast.denoscope", path)


def _folder_of_movies(path: Path) -> None:
    path.mkdir()
    (path.parent / "denoised").mkdir()
    for name in ("one.tif", "two.tif"):
        tifffile.imwrite(path / name, _frames(12))


def _configuration(path: Path) -> None:
    from mm_test_adapters import device_adapter_path

    # Of its 512 x 512 pixels most commands need none: 2 x 2 of these hold the region of `guides/micro-manager.md`.
    side = 384 if path.stem == "FILE" else 192
    camera = "".join(f"Property,Camera,OnCameraCCD{axis}Size,{side}\n" for axis in "XY")
    text = (Path(device_adapter_path()) / "MMConfig_demo.cfg").read_text(encoding="utf-8")
    path.write_text(text + camera, encoding="utf-8")


_BROUGHT: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("movie.tif", "raw.tif", "MOVIE", "RECORDING.tif", "NOISY.tif", "CLEAN.tif"), _movie),
    "movie.ome.tif": _two_channels,
    "movie.h5": _no_axes,
    "gain.mat": _camera_map,
    "offset.mat": _camera_map,
    "cells.zip": _cells,
    "mine.denoscope": _bundle,
    "recordings": _folder_of_movies,
    "FILE.cfg": _configuration,
    "MMConfig_demo.cfg": _configuration,
}
"""Files that a reader has to bring, by the names that the pages give them."""


@dataclass
class Walk:
    """One folder in which the blocks of some pages run one after the other.

    Parameters
    ----------
    folder
        Working folder; what the reader would have to bring is made there.
    python
        Python of the environment.
    whole
        Run commands at full length and install what the pages install.
    """

    folder: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))
    whole: bool = False
    printed: str = ""
    _port: int = field(default_factory=lambda: _free_port())
    _server: Peer | None = None

    def block(self, block: Block) -> None:
        """Run one block; AssertionError with all that was printed where a command fails."""
        if block.not_run or block.kind in ("mermaid", "{ .python }", "powershell", "bat"):
            return
        with ExitStack() as stack:
            if block.meanwhile:
                stack.enter_context(self._beside(block.meanwhile, block))
            if block.kind == "text":
                assert re.search(_pattern(block.text), self.printed), f"{block}: not printed\n{self.printed}"
            elif block.kind == "python":
                script = self.folder / f"{block.page.stem}_{block.line}.py"
                script.write_text(block.text, encoding="utf-8")
                self._run([str(self.python), script.name], block)
            elif block.kind == "bash":
                self._bring(block.text)
                self._run(["bash", "-euc", block.text], block)
            else:
                for command in commands_in(block):
                    if not command.startswith(_SERVERS):
                        self._command(command, block)

    def _command(self, command: str, block: Block) -> None:
        words = words_of(command)
        if words[:4] == ["python", "-m", "pip", "install"]:
            if self.whole:
                self._run([str(self.python), *words[1:]], block, ROOT)
            return
        self._bring(command)
        printed = self._run(self._program(words), block, refused=block.kind == "console")
        if block.kind == "console":
            told = block.text.split(f"$ {command}\n")[1].split("\n$ ")[0]
            assert re.search(_pattern(told), printed), f"{block}: not printed\n{printed}"
        elif words[1] in ("live", "demo"):
            report = self.folder / words[words.index("--output") + 1] / "report.json"
            frames = json.loads(report.read_text(encoding="utf-8"))["frames"]
            assert frames["received"] == frames["written_raw"] > 0, f"{block}: {frames}"

    def _program(self, words: list[str]) -> list[str]:
        """Return the words that run a command in this environment, cut where time matters."""
        program, *rest = words
        if program == "python":
            # A benchmark takes hours; that it takes these options is seen by its help.
            return [str(self.python), str(ROOT / rest[0]), "--help"]
        if not self.whole and not {"--fill", "--dask"} & {*rest}:
            rest += words_of(_SHORTER.get(rest[0] if "--seconds" not in rest else "demo", ""))
        if rest[0] == "bench" and not self.whole:
            rest = re.sub(r"--size (?!64x64)\S+ ", "", " ".join(rest)).split()
        if not os.environ.get("DISPLAY") and sys.platform == "linux":
            rest = [word for word in rest if word != "--view"]  # the windows have their own tests
        return [str(self.python), "-m", _MODULES[program], *(self._here(word) for word in rest)]

    def _here(self, word: str) -> str:
        """Return a word with what names the reader's own computers and folders replaced."""
        if word == r"C:\Program Files\Micro-Manager-2.0":
            from mm_test_adapters import device_adapter_path

            return str(device_adapter_path())
        if "127.0.0.1:4827" in word:
            if self._server is None:
                self._server = Peer(_frames())
                self._server.start()
            return word.replace("4827", str(self._server.port))
        return word.replace("SCHEDULER", "127.0.0.1").replace("8786", str(self._port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()

    def _bring(self, command: str) -> None:
        read = re.sub(r"--output \S+", "", command)
        for name, make in _BROUGHT.items():
            if (
                re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w.])", read)
                and not (self.folder / name).exists()
            ):
                if f"watch:{name}" in command:
                    Thread(target=_grow, args=[self.folder / name], daemon=True).start()
                else:
                    make(self.folder / name)
        if "--fill RUN" in command:
            self._run(self._program(words_of("denoscope live --core demo --output RUN --no-fill")), None)

    def _environment(self) -> dict[str, str]:
        parts = (
            [] if self.whole else [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition")]
        )
        path = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", "")])
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONPATH")}
        if not self.whole:
            environment["PYTHONPATH"] = os.pathsep.join([*parts, os.environ.get("PYTHONPATH", "")])
        cache = str(self.folder / "cache")
        return {**environment, "PATH": path, "XDG_CACHE_HOME": cache, "QT_QPA_PLATFORM": "offscreen"}

    def _run(
        self, words: list[str], block: Block | None, folder: Path | None = None, *, refused: bool = False
    ) -> str:
        began = time.monotonic()
        done = subprocess.run(
            words,
            cwd=folder or self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE_S * (10 if self.whole else 1),
            check=False,
        )
        self.printed += done.stdout
        print(f"{time.monotonic() - began:5.1f} s  {block}: {' '.join(words[1:])[:150]}", flush=True)
        assert done.returncode == (2 if refused else 0), f"{block}: {words}: {done.returncode}\n{done.stdout}"
        assert "Traceback" not in done.stdout, f"{block}: {words}\n{done.stdout}"
        return done.stdout

    def _await_port(self) -> None:
        """Wait until the first server of the page answers."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5):
                return
            time.sleep(0.1)
        raise AssertionError(f"nothing answers at port {self._port}")

    @contextmanager
    def _beside(self, command: str, block: Block) -> Iterator[None]:
        """Run a command until the blocks beside it have run; one that records is waited for at both ends."""
        words = words_of(command)
        process = subprocess.Popen(
            [str(self.python), "-m", _MODULES[words[0]], *map(self._here, words[1:])],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=(log := (self.folder / "beside.log").open("w+", encoding="utf-8")),
            stderr=subprocess.STDOUT,
        )
        try:
            if "--output" in words:
                rows = self.folder / words[words.index("--output") + 1] / "raw.jsonl"
                until = time.monotonic() + _PATIENCE_S
                while not (rows.exists() and rows.stat().st_size) and process.poll() is None:
                    assert time.monotonic() < until, f"{block}: {command} does not begin"
                    time.sleep(0.1)
            yield
            if "--output" in words:
                assert process.wait(_PATIENCE_S) == 0, f"{block}: {command} ended with {process.returncode}"
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
            log.seek(0)
            self.printed += log.read()
            log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _grow(path: Path) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for frame in _frames():
            writer.write(frame, contiguous=False, metadata=None)
            time.sleep(0.02)


def _pattern(text: str) -> str:
    """Return a pattern of a text that is printed with other numbers and units."""
    parts = re.split(r"(\d[\d.]*(?: (?:kB|MB|GB|TB|s|minutes|hours|days|h)\b)?|\s+|\.\.\.)", text.strip())
    known = {"...": r".*"}
    return "".join(
        r"[\d.]+(?: \w+)?"
        if part[:1].isdigit()
        else known.get(part, r"\s+" if part.isspace() else re.escape(part))
        for part in parts
    )


def walk(listed: list[Path], folder: Path, python: Path | None = None, *, whole: bool = False) -> None:
    """Run the blocks of pages that belong together, one after the other in one folder."""
    blocks = [block for page in listed for block in blocks_of(page)]
    with Walk(folder, python or Path(sys.executable), whole) as here, ExitStack() as stack:
        for block in blocks:
            for command in commands_in(block):
                if command.startswith(_SERVERS):
                    stack.enter_context(here._beside(command, block))
                    here._await_port()
        for block in blocks:
            here.block(block)


def groups(chosen: list[Path] | None = None) -> dict[str, list[Path]]:
    """Return the pages with commands by name; those of `start` go on from each other."""
    found: dict[str, list[Path]] = {}
    for page in pages():
        if chosen and page not in chosen:
            continue
        if any(block.kind != "mermaid" for block in blocks_of(page)):
            key = "start" if page.parent.name == "start" else f"{page.parent.name}-{page.stem}"
            found.setdefault(key, []).append(page)
    return found


def main() -> None:
    """Walk through the pages named, or all."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pages", nargs="*", type=Path, help="pages; all by default, in the order of the site")
    parser.add_argument("--fresh", action="store_true", help="new environment, full length")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        python = None
        if options.fresh:
            venv.create(Path(name) / "venv", with_pip=True)
            python = Path(name) / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        for key, listed in groups([page.resolve() for page in options.pages]).items():
            folder = Path(name) / key
            folder.mkdir()
            walk(listed, folder, python, whole=options.fresh)


if __name__ == "__main__":
    main()
