"""Print what the base install costs: packages, megabytes, import time, and what an import pulls in.

    python benchmarks/install_size.py dist/denoscope-*.whl

Installs the wheel without extras into a fresh environment. Exits with 1 if torch came along or if
importing `denoscope.runtime` loads torch, onnx, openvino or matplotlib.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

MUST_NOT_LOAD = ("torch", "onnx", "onnxruntime", "openvino", "matplotlib", "pycromanager", "pydantic")
PROBE = """
import json, sys, time
started = time.perf_counter()
import denoscope.runtime
bare = time.perf_counter() - started
loaded = sorted({name.partition(".")[0] for name in sys.modules})
from denoscope.runtime import Bundle, Stream
print(json.dumps({"import_s": bare, "import_names_s": time.perf_counter() - started, "loaded": loaded}))
"""


def main() -> None:
    """Install, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        empty = size_of(Path(folder))
        subprocess.run([python, "-m", "pip", "install", "--quiet", *sys.argv[1:]], check=True)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True
        ).stdout
        packages = [p["name"] for p in json.loads(listed) if p["name"] not in ("pip", "setuptools")]
        print(f"base install: {len(packages)} packages, {(size_of(Path(folder)) - empty) / 1e6:.0f} MB")
        print("  " + ", ".join(packages))
        runs = [
            json.loads(
                subprocess.run([python, "-c", PROBE], check=True, capture_output=True, text=True).stdout
            )
            for _ in range(5)
        ]
        print(f"import denoscope.runtime: {min(r['import_s'] for r in runs) * 1e3:.1f} ms")
        print(f"  and the names Bundle and Stream: {min(r['import_names_s'] for r in runs) * 1e3:.0f} ms")
        loaded = [name for name in MUST_NOT_LOAD if name in runs[0]["loaded"]]
        print(f"  heavy modules loaded by the import: {', '.join(loaded) or 'none'}")
        sys.exit(bool(loaded) or "torch" in packages)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


if __name__ == "__main__":
    main()
