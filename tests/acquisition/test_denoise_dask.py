"""`denoscope denoise --dask`: a cluster of processes gives the bits of one machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

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


def test_a_cluster_goes_on_where_this_computer_left_half_a_chunk(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
    from denoscope.acquisition.offline import cluster

    scene = 150 + 100 * np.sin(np.arange(40) / 3)
    frames = np.random.default_rng(8).poisson(np.broadcast_to(scene, (40, 32, 40))).astype(np.float32)
    frames[13:24, :2, :3] = np.nan
    frames[15] = 0  # dark: shown as measured
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, frames)
    asked: list[tuple[int, int]] = []

    def here(url: str, task: Any, starts: Any, on_chunk: Any) -> None:
        for chunk, start in starts.items():
            asked.append((chunk.index, start))
            on_chunk(chunk, cluster.work_on(task, chunk, start))

    monkeypatch.setattr(cluster, "run_on_cluster", here)
    whole, out = tmp_path / "whole.ome.zarr", tmp_path / "out.ome.zarr"
    told = denoise_movie(movie, whole, bundle=str(bundle), **CUT)
    assert any("60 pixels" in note for note in told["notes"]), told["notes"]
    assert any("1 dark" in note for note in told["notes"]), told["notes"]

    def interrupt(done: int, _total: int) -> None:
        if done == 19:  # in the second chunk
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_movie(movie, out, bundle=str(bundle), on_frame=interrupt, **CUT)
    result = denoise_movie(movie, out, bundle=str(bundle), dask="tcp://here", resume=True, **CUT)
    assert asked == [(1, 19), (2, 24), (3, 36)]
    assert (result["frames"], result["resumed_from"]) == (40, 19)
    assert result["notes"] == told["notes"]
    found = np.asarray(open_movie(out))
    np.testing.assert_array_equal(found, np.asarray(open_movie(whole)))
    assert not found[15].any()  # written although all of it is the fill value


def test_what_a_cluster_cannot_do_is_said(bundle: Path, movie: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    with pytest.raises(InvalidInput, match="`dask` writes OME-Zarr only"):
        denoise_movie(movie, tmp_path / "out.tif", bundle=str(bundle), dask="tcp://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match="no Dask scheduler answers at x://nothing"):
        denoise_movie(movie, tmp_path / "out.zarr", bundle=str(bundle), dask="x://nothing")
