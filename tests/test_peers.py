"""`benchmarks/peers.py`: networks of others from a folder, the same minutes for all, rows that are kept."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from denoscope.runtime import InvalidInput

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

CODE = """
import torch
from {helper} import WIDTH

class {name}(torch.nn.Module):
    def __init__(self, *given, **settings):
        super().__init__()
        self.channels = settings.get("in_channels", 1)
        self.scale = torch.nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        mean = x.mean(dim=({axis},), keepdim=True)
        return self.scale * ({result})
"""
STUBS = {  # folder: module, class, what it imports, axis of the mean, result
    "support": ("model/SUPPORT.py", "SUPPORT", "model.width", 1, "mean"),
    "deepcad-rt": (
        "DeepCAD_RT_pytorch/deepcad/network.py",
        "Network_3D_Unet",
        "deepcad.width",
        2,
        "mean + 0 * x",
    ),
    "srdtrans": ("SRDTrans/__init__.py", "SRDTrans", "SRDTrans.width", 2, "mean + 0 * x"),
    "fast": ("models/Unet_Lite.py", "Unet_Lite", "models.width", 1, "mean + 0 * x"),
}


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import from the folder, and forget its modules afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def stub(folder: Path, name: str) -> Path:
    """Write a network as somebody else's repository holds it."""
    file, class_name, helper, axis, result = STUBS[name]
    path = folder / name / file
    path.parent.mkdir(parents=True)
    path.write_text(CODE.format(name=class_name, helper=helper, axis=axis, result=result), encoding="utf-8")
    (path.parent / "width.py").write_text("WIDTH = 1\n", encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", STUBS)
def test_a_network_of_others_is_trained_and_denoises(name: str, tmp_path: Path) -> None:
    from peer_networks import PEERS, train_peer

    noisy = np.random.default_rng(0).poisson(20, (72, 33, 40)).astype(np.uint16)
    before = set(sys.modules)
    for peer in PEERS[name]:
        ticks = itertools.count(0, 20)
        trained = train_peer(
            peer, stub(tmp_path / peer.name, name), noisy, minutes=1, clock=lambda t=ticks: float(next(t))
        )
        assert trained.steps == 3
        assert 0 < trained.share_of_schedule < 0.01
        assert all(float(p.detach().abs()) > 0 for p in trained.network.parameters()), "no step was made"
        movie = trained.denoise(noisy)
        assert movie.shape == noisy.shape
        assert abs(float(movie.mean()) - 20) < 1
    assert not {"model", "models", "deepcad", "SRDTrans"} & (set(sys.modules) - before)


def test_modules_are_forgotten_where_a_folder_of_their_name_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peer_networks import class_of

    (tmp_path / "elsewhere" / "models").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    class_of(stub(tmp_path, "fast"), "models.Unet_Lite", "Unet_Lite")
    assert not [name for name in sys.modules if name.split(".")[0] == "models"]


def test_two_peers_with_modules_of_one_name_stay_apart(tmp_path: Path) -> None:
    from peer_networks import class_of

    for number in (1, 2):
        path = tmp_path / str(number) / "model" / "net.py"
        path.parent.mkdir(parents=True)
        path.write_text(f"class Net:\n    number = {number}\n", encoding="utf-8")
    found: list[Any] = [class_of(tmp_path / str(number), "model.net", "Net") for number in (1, 2)]
    assert [net.number for net in found] == [1, 2]


def test_a_folder_without_the_code_is_named(tmp_path: Path) -> None:
    from peer_networks import PEERS
    from peers import code

    with pytest.raises(InvalidInput, match=r"gives no model\.SUPPORT\.SUPPORT .*README"):
        PEERS["support"][0].build(tmp_path)
    with pytest.raises(Exception, match="check out the code of support"):
        code(f"support={tmp_path / 'nothing'}")
    with pytest.raises(Exception, match="one of the names support, deepcad-rt, srdtrans, fast"):
        code("other=.")


def test_blocks_of_a_movie_join_to_the_movie() -> None:
    from peer_networks import _in_blocks  # blocks alone, without a peer's network

    movie = torch.rand(21, 30, 26)
    assert torch.allclose(_in_blocks(torch.nn.Identity(), movie, 8, 16), movie, atol=1e-6)


def test_srdtrans_learns_from_neighbours_alone() -> None:
    """Input and targets are never the same pixel."""
    from peer_networks import _four  # turns alone, without a peer's network

    frames = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(2, 4, 6)
    four = _four(frames)
    for own in range(4):
        for other in (own ^ 1, own ^ 2):
            apart = (four[0, own] - four[0, other]).abs().unique()
            assert apart.tolist() == [1.0 if other == own ^ 1 else 6.0]


def options(folder: Path, data: Path) -> SimpleNamespace:
    return SimpleNamespace(frames=4, edge=32, data=data, output=folder)


def test_rows_that_are_there_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import peers

    rng = np.random.default_rng(0)
    truth = np.asarray(100 + 50 * rng.random((4, 32, 32)), np.float32)
    monkeypatch.setattr(peers.Subject, "pair", property(lambda _: (rng.poisson(truth), truth)))
    monkeypatch.setattr(peers, "CROP", 16)
    done, saved = [], []

    def method(name: str, version: str = "1") -> Any:
        return peers.Method(name, version, lambda s: done.append(name) or peers.Made(s.noisy))

    report: dict[str, Any] = {"movies": {}}

    def run(*methods: Any) -> None:
        peers.measure(report, methods, ["two-photon"], options(tmp_path, tmp_path), lambda: saved.append(1))

    run(method("a"), method("b"))
    run(method("a"), method("b", "2"), method("c"))
    assert done == ["a", "b", "b", "c"]
    assert len(saved) == 4
    json.dumps(report)

    def refuses(_: Any) -> Any:
        raise InvalidInput("It needs more frames.")

    told = peers.measure(
        report,
        [peers.Method("d", "1", refuses), method("e")],
        ["two-photon"],
        options(tmp_path, tmp_path),
        lambda: None,
    )
    assert told == ["two-photon: d not measured. It needs more frames."]
    assert done[-1] == "e"
    report["movies"]["two-photon"]["rows"].pop("e")
    assert set(report["movies"]["two-photon"]["rows"]) == {"a", "b", "c"}


def test_too_dark_a_movie_is_told_from_a_wrong_one() -> None:
    import peers

    truth = np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    assert np.allclose(peers.on_line(truth, 0.5 * truth - 3), truth, atol=1e-4)


def test_bars_compare_with_the_same_part_of_the_movie() -> None:
    import peers

    def row(psnr: float, **more: Any) -> dict[str, Any]:
        return {
            "psnr_db": psnr,
            "psnr_line_db": psnr,
            "psnr_crop_db": psnr,
            "ssim_p999": 0.9,
            "whole": True,
            **more,
        }

    rows = {
        "gaussian": row(40.0),
        "live-hq": row(43.0, processor_s_a_frame=1.0),
        "recorded": row(44.5, processor_s_a_frame=1.2, psnr_crop_db=42.0, ssim_p999=0.91),
        "bm4d": row(41.5, whole=False, ssim_p999=0.99),
        "support": row(30.0, psnr_line_db=44.0, steps=5),
    }
    name = peers.NAOMI[0]
    found = {bar["bar"]: bar for bar in peers.bars({"movies": {name: {"rows": rows}}})}
    assert found["dB above live-hq, still"]["reached"]
    assert found["dB above support"]["value"] == pytest.approx(0.5)
    assert not found["dB above support"]["reached"]
    assert not found["dB above bm4d, on its part"]["reached"]
    assert found["SSIM above gaussian, the best other"]["reached"]  # BM4D's is that of another part
    assert len(list(peers.bars_said(list(found.values())))) == 3


def test_scenes_of_new_seeds_are_new_and_stay_what_they_are() -> None:
    import peers

    assert [peers.moves(name) for name in (*peers.NAOMI, "two-photon", "moving-cells")] == [
        False,
        False,
        True,
        False,
        True,
    ]
    first, again = (peers.new_scene(peers.FRESH[5], 3).clean for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("photons", [0.3, 5.0])
def test_bm4d_is_told_the_noise_also_where_most_pixels_count_no_photon(
    photons: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peers

    sigmas: list[float] = []
    plain = SimpleNamespace(bm4d=lambda movie, sigma: sigmas.append(sigma) or movie)
    monkeypatch.setitem(sys.modules, "bm4d", plain)
    light = np.broadcast_to(photons * np.linspace(0.2, 1.8, 40), (40, 40, 40))
    counts = 100 + 100 * np.random.default_rng(0).poisson(light)
    subject = SimpleNamespace(noisy=counts.astype(np.uint16), part=(slice(None),) * 3)
    made = peers._bm4d(subject)
    assert 0.5 < sigmas[0] < 1.2
    assert made.movie.shape == counts.shape
    assert not made.whole


def test_what_an_error_consists_of_is_told() -> None:
    from false_structure import causes
    from scipy import ndimage

    rng = np.random.default_rng(0)
    truth = rng.gamma(2, 20, (40, 24, 24)).astype(np.float32)
    noise = rng.normal(0, 20, truth.shape).astype(np.float32)
    std = np.full_like(truth, 5)
    made = {
        "time": ndimage.uniform_filter1d(truth, 7, axis=0, mode="nearest"),
        "space": ndimage.gaussian_filter(truth, (0, 1, 1)),
        "noise": truth + 2 * noise.mean(axis=0) + 0.5 * noise,
        "rest": truth + rng.normal(0, 30, truth.shape).astype(np.float32),
    }
    for cause, shown in made.items():
        found = causes(truth, truth + noise, shown, std)
        assert found[f"{cause}_share"] > 0.97, cause
        assert found[f"{cause}_share_beyond_4"] > 0.9, cause
    still = np.repeat(truth[:1], len(truth), axis=0)
    assert causes(still, still + noise, still + 21, std)["quiet_above_4"] == 1


def test_equal_alarms_and_an_event_where_it_is() -> None:
    from event_roc import RAW, Seen, bars, rows_of, traces

    movie = np.zeros((9, 4, 4))
    movie[4:7, 1, 1] = 3
    weights = np.zeros((1, 4, 4))
    weights[0, 1, 1] = 1
    assert int(traces(movie, weights, 3)[0].argmax()) == 4
    assert traces(movie, weights, 1)[0].tolist() == [0, 0, 0, 0, 3, 3, 3, 0, 0]
    rng = np.random.default_rng(0)
    quiet, snrs = rng.normal(size=20_000), np.full(400, 4.5)
    blind, sharp = (
        Seen(quiet, rng.normal(size=400), snrs),
        Seen(2 * quiet, 2 * (6 + rng.normal(size=400)), snrs),
    )
    assert blind.found(0.01, 4, 5)[0] == pytest.approx(0.01, abs=0.02)
    assert sharp.found(0.01, 4, 5)[0] > 0.99
    found = bars(rows_of({"one frame": {RAW: sharp, "live": blind}}))
    assert found
    assert not any(bar["reached"] for bar in found)


def test_the_matched_filter_finds_simulated_events() -> None:
    from event_roc import EVENTS, RAW, measure

    from denoscope.train.evaluation.transients import TransientSettings

    settings = TransientSettings(frames=110, size=48, first=20, photons=5.0, contrast=4.0)
    found = measure({"as it is": lambda _: lambda movie: movie}, settings, [4.0])
    for event in EVENTS:
        raw, same = found[event][RAW], found[event]["as it is"]
        assert raw.found(0.01, 0, 100)[0] >= max(0.9, same.found(0.01, 0, 100)[0] - 0.1)


def test_a_grid_and_stripes_of_real_movies_are_found() -> None:
    from real_pictures import judge

    rng = np.random.default_rng(0)
    scene = np.full((20, 64, 64), 100, np.float32)
    noisy = (scene + rng.normal(0, 5, scene.shape)).astype(np.float32)
    sigma = np.full_like(scene, 5)
    shown = (scene + rng.normal(0, 0.5, scene.shape)).astype(np.float32)
    clean = judge(noisy, shown, sigma)
    assert not clean["grid_found"]
    assert 0.8 < clean["row_stripes"] < 1.2
    assert 0.8 < clean["column_stripes"] < 1.2
    grid = judge(noisy, shown + np.float32(0.5) * ((np.arange(64) % 4) == 0), sigma)
    assert grid["grid_found"]
    rows = judge(noisy + rng.normal(0, 3, (20, 64, 1)).astype(np.float32), shown, sigma)
    assert rows["row_stripes"] > 5
    assert rows["column_stripes"] < 1.2
