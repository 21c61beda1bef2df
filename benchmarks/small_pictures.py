"""Make the pictures of the docs small: 256 colours, fewer where that is not enough, at most 1400 pixels wide.

    python benchmarks/small_pictures.py [FILE.png ...]

Without files, all of `docs/`. A picture is replaced only where that saves a tenth of it or more.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

WIDEST = 1400
ENOUGH = 300_000  # bytes
ROOT = Path(__file__).parent.parent


def small(path: Path) -> bytes:
    """Return the picture as a PNG of a palette."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST:
        height = round(picture.height * WIDEST / picture.width)
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64):
        data = BytesIO()
        paletted = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        paletted.save(data, format="PNG", optimize=True)
        if data.tell() <= ENOUGH:
            break
    return data.getvalue()


def main() -> None:
    """Print the size of every picture before and after."""
    paths = [Path(word) for word in sys.argv[1:]] or sorted((ROOT / "docs").rglob("*.png"))
    before = after = 0
    for path in paths:
        data, size = small(path), path.stat().st_size
        if len(data) < 0.9 * size:
            path.write_bytes(data)
        before, after = before + size, after + path.stat().st_size
        print(f"{path.name}: {size / 1e3:.0f} -> {path.stat().st_size / 1e3:.0f} kB")
    print(f"in all {before / 1e6:.2f} -> {after / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
