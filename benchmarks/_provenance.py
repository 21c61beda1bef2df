"""Origin of a result file: commit, SHA-256 of the bundles, versions of the libraries.

Every benchmark that writes a result file does so with `write_results`. A benchmark that goes on with the rows of an
earlier run keeps the bundles of each row in it (`bundles`, by name), since those of the last run may be others; the
file as a whole names them all. A test compares the numbers in the docs with the
files, and the bundles in them with those that ship (`tests/test_numbers_in_docs.py`).
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from denoscope.runtime import Bundle

__all__ = ["LIBRARIES", "digests_of", "provenance", "read_rows", "write_results"]

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "denoscope",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "scikit-image",
    "scipy",
)


def digests_of(bundles: Iterable[str | Path | Bundle]) -> dict[str, str]:
    """Return the SHA-256 of bundles by their names."""
    loaded = [b if isinstance(b, Bundle) else Bundle.load(b) for b in bundles]
    return {bundle.manifest.name: bundle.digest for bundle in loaded}


def provenance(bundles: Iterable[str | Path | Bundle] = ()) -> dict[str, Any]:
    """Return the commit, with a plus where more than results has changed, the bundles' SHA-256 by name, and versions.

    A benchmark that goes on where it was ended has changed its own results.
    """
    return {
        "commit": _git("rev-parse", "HEAD")
        + ("+" if _git("status", "--porcelain", "--", ".", ":!benchmarks/results") else ""),
        "bundles": digests_of(bundles),
        "versions": {"python": platform.python_version(), **_versions()},
        "recorded": "by the benchmark",
    }


def write_results(
    path: Path,
    values: Mapping[str, Any] | list[Any],
    bundles: Iterable[str | Path | Bundle] = (),
    *,
    indent: int | None = 1,
) -> None:
    """Write results as JSON with their provenance; a list becomes `rows`.

    Bundles that rows name are added to those of the file; where a name means two bundles, the row's is of that row.
    """
    content = {"rows": values} if isinstance(values, list) else dict(values)
    origin = provenance(bundles)
    for row in content.get("rows", []):
        if isinstance(row, Mapping):
            origin["bundles"] = {**row.get("bundles", {}), **origin["bundles"]}
    content = {"provenance": origin, **{k: v for k, v in content.items() if k != "provenance"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[Any]:
    """Return the rows of a result file, none where it does not exist; older files are a bare list."""
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    rows: list[Any] = content if isinstance(content, list) else content["rows"]
    return rows


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()
