"""Make the pictures of the docs small: a palette, fewer colours where that is not enough, at most 1400 pixels wide.

    python benchmarks/small_pictures.py [FILE.png ...]

Without files, all of `docs/`. A picture is replaced only where that saves a tenth of it or more.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

WIDEST = 1400
ENOUGH = 300_000  # bytes
ROOT = Path(__file__).parent.parent


def small(path: Path) -> bytes:
    """Return the picture as a PNG with a palette."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST:
        height = round(picture.height * WIDEST / picture.width)
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    for greys, colours in ((96, 160), (48, 80), (32, 48)):
        data = BytesIO()
        paletted = picture.quantize(palette=palette_of(picture, greys, colours), dither=Image.Dither.NONE)
        # Pillow looks colours up coarsely; paper stays white.
        numbers = np.array(paletted)
        numbers[(np.asarray(picture) == 255).all(axis=2)] = greys - 1
        exact = Image.fromarray(numbers, mode="P")
        exact.putpalette(paletted.getpalette() or [])
        exact.save(data, format="PNG", optimize=True)
        if data.tell() <= ENOUGH:
            break
    return data.getvalue()


def palette_of(picture: Image.Image, greys: int, colours: int) -> Image.Image:
    """Return a palette of a ramp of greys and of the colours of thin lines as well as of large areas."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colourful = np.unique(pixels[np.ptp(pixels, axis=1) > 12], axis=0)
    ramp = np.repeat(np.linspace(0, 255, greys).round()[:, None], 3, axis=1).astype(np.uint8)
    if len(colourful):
        # Each colour counts once, however few pixels have it.
        few = Image.fromarray(colourful[None]).quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=2)
        ramp = np.concatenate([ramp, np.array(few.getpalette(), np.uint8).reshape(-1, 3)[:colours]])
    palette = Image.new("P", (1, 1))
    palette.putpalette(ramp.ravel().tolist())
    return palette


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
