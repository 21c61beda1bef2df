"""The commands of the shell, run in this process: starting Python and loading torch anew takes seconds a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["run_here"]


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `denoscope` with these words and return its exit code and what it printed.

    What a process that the command starts prints is not caught. A recording from Micro-Manager needs a process
    of its own: its core cannot be started twice in one. `denoise` draws its picture only where `--picture` is given.
    """
    from denoscope.acquisition.cli.app import main

    words = [str(word) for word in arguments]
    if words[0] == "denoise" and "--picture" not in words:
        words.append("--no-picture")  # drawing takes longer than denoising a tiny movie
    before, safe = (sys.stdout, sys.stderr), os.environ.get("PYTHONSAFEPATH")
    with TemporaryDirectory() as folder:
        # Files, not buffers in memory: the shell writes below the buffer, and libraries ask for a number.
        paths = Path(folder, "out"), Path(folder, "err")
        with paths[0].open("w", encoding="utf-8") as out, paths[1].open("w", encoding="utf-8") as err:
            sys.stdout, sys.stderr = out, err
            try:
                main(words)
                code: object = 0
            except SystemExit as ended:
                code = ended.code
            finally:
                sys.stdout, sys.stderr = before
                if safe is None:  # scripts that are started later must find the modules beside them
                    os.environ.pop("PYTHONSAFEPATH", None)
        printed = [path.read_text(encoding="utf-8") for path in paths]
    if isinstance(code, str):
        printed[1], code = printed[1] + code, 1
    return subprocess.CompletedProcess(words, code if isinstance(code, int) else 0, *printed)
