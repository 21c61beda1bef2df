"""Headers of NumPy's files that are no Python, or say what no array has, are one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoscope.runtime import InvalidInput, open_movie


@pytest.mark.parametrize(
    "header",
    [
        b"(" * 100,
        b"{'descr': '<u2', 'fortran_order': False, 'shape': (3, 4, 5",
        b"{'descr': '<u2', 'fortran_order': False, 'shape': (-3, 4, 5), }",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (3, 4, 5), }",
        b"'''",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_damaged_header_is_one_sentence(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "m.npy"
    header = header.ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(120))
    with pytest.raises(InvalidInput, match=r"m.npy cannot be read as a NumPy array .*: save it again"):
        open_movie(path)
