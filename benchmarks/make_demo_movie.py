"""Make the demo movie from anscombe-transform's example recording (run once; the result is committed).

    python benchmarks/make_demo_movie.py real_2p_gcamp_codes.tif

The recording (MIT, datajoint/anscombe-transform, examples/test.zarr, commit 7caf8a72) is stored as
variance-stabilised codes in steps of 0.5 sigma, gain 96.995, zero level 86. The inverse published in
that package (1.0.0, `make_inverse_lookup`) gives each code the middle of the intensities that map to
it. The demo keeps frames 150 to 299; the frames before are for training.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from anscombe_transform.codec import make_anscombe_lookup, make_inverse_lookup

GAIN, ZERO_LEVEL, BETA = 96.995, 86, 0.5
FIRST = 150
NOTE = (
    "real two-photon GCaMP recording, mouse cortex, frames 150 to 299 of examples/test.zarr of "
    "datajoint/anscombe-transform (MIT licence), decoded to intensities"
)
TARGET = Path(__file__).parents[1] / "acquisition/denoscope/acquisition/data/demo_2p_gcamp.npz"


def main() -> None:
    """Decode, cut and pack the movie."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codes", type=Path, help="TIFF with the codes, (T, H, W) uint8")
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()

    codes = tifffile.imread(arguments.codes)[FIRST:]
    forward = make_anscombe_lookup(GAIN, zero_level=ZERO_LEVEL, beta=BETA)
    levels = make_inverse_lookup(forward)[: int(codes.max()) + 1].astype(np.uint16)

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # An ordinary .npz, packed with LZMA: 7 % smaller than NumPy's own deflate, below 3 MB.
    with zipfile.ZipFile(arguments.output, "w", zipfile.ZIP_LZMA) as file:
        for name, array in (("codes", codes), ("levels", levels), ("note", np.array(NOTE))):
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            # A fixed date, so that the same input gives the same file.
            file.writestr(
                zipfile.ZipInfo(f"{name}.npy", (2020, 1, 1, 0, 0, 0)), data.getvalue(), zipfile.ZIP_LZMA
            )
    print(f"{arguments.output}: {codes.shape} frames, {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
