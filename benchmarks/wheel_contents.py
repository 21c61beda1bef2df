"""Check what a wheel holds and print its size: nothing stray, the bundles within 9 MB, the demo movie within 3 MB.

python benchmarks/wheel_contents.py dist/*.whl
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

LIMITS = {"runtime/bundles/": 9_000_000, "acquisition/data/": 3_000_000, "train/weights/": 600_000}
PARTS = ("train", "export", "runtime", "acquisition")


def problems(wheel: Path) -> list[str]:
    """Return what is wrong with the wheel; print its sizes."""
    with zipfile.ZipFile(wheel) as archive:
        files = {i.filename: i.file_size for i in archive.infolist() if ".dist-info/" not in i.filename}
        licences = [n for n in archive.namelist() if ".dist-info/licenses/" in n]
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {len(files)} files")
    found = [
        f"{name} is not in a part of denoscope"
        for name in files
        if not name.startswith(tuple(f"denoscope/{part}/" for part in PARTS))
    ]
    found += [f"there is no denoscope/{p}/py.typed" for p in PARTS if f"denoscope/{p}/py.typed" not in files]
    for folder, limit in LIMITS.items():
        size = sum(s for name, s in files.items() if folder in name)
        print(f"  {folder}: {size / 1e6:.2f} MB (limit {limit / 1e6:g} MB)")
        if not 0 < size <= limit:
            found.append(f"{folder} holds {size} bytes, allowed are 1 to {limit}")
    for name in ("LICENSE", "THIRD_PARTY.md"):
        if not any(n.endswith(name) for n in licences):
            found.append(f"{name} is missing")
    return found


def main() -> None:
    """Check each wheel named on the command line; exit with 1 if one has a problem."""
    wheels = [Path(name) for name in sys.argv[1:]]
    found = [p for wheel in wheels for p in problems(wheel)]
    for problem in found or ["no problem found"] * bool(wheels) or ["no wheel was named"]:
        print(problem)
    sys.exit(bool(found) or not wheels)


if __name__ == "__main__":
    main()
