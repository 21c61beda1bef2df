"""`denoscope denoise --dask`: a cluster of processes gives the bits of one machine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from denoscope.acquisition import SourceUnavailable
from denoscope.runtime import InvalidInput, open_movie
from support.plain_results import denoise_movie

CUT = {"chunk": 12, "warm_up": 6}


@pytest.mark.slow
# dask and tornado leave sockets and temporary folders to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_gives_the_same_bits(
    bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra 'dask'")
    pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
    parts = [
        str(Path(__file__).resolve().parents[2] / part)
        for part in ("train", "export", "runtime", "acquisition")
    ]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(parts))
    whole, out = tmp_path / "whole.ome.zarr", tmp_path / "out.ome.zarr"
    denoise_movie(movie, whole, bundle=str(bundle), **CUT)

    def interrupt(done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        url = cluster.scheduler_address
        with pytest.raises(KeyboardInterrupt):
            denoise_movie(movie, out, bundle=str(bundle), dask=url, on_frame=interrupt, **CUT)
        assert not out.exists()
        result = denoise_movie(movie, out, bundle=str(bundle), dask=url, resume=True, **CUT)
    assert result["frames"] == 40
    assert result["resumed_from"] in (
        12,
        4,
    )  # the first chunk to end is any of four, the last has four frames
    np.testing.assert_array_equal(np.asarray(open_movie(out)), np.asarray(open_movie(whole)))


def test_what_a_cluster_cannot_do_is_said(bundle: Path, movie: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    with pytest.raises(InvalidInput, match="`dask` writes OME-Zarr only"):
        denoise_movie(movie, tmp_path / "out.tif", bundle=str(bundle), dask="tcp://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match="no Dask scheduler answers at x://nothing"):
        denoise_movie(movie, tmp_path / "out.zarr", bundle=str(bundle), dask="x://nothing")
