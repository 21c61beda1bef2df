"""Networks of other groups, trained on one noisy movie by the loop of this project.

Nothing of theirs is in this repository. A user checks their code out and names the folder; the class is imported from
there (`peers.py --code support=FOLDER`). A peer here says where its class is, how it makes input and target of a noisy
movie, and how it denoises a movie, after what its authors published. Networks and patches are smaller than the
published ones, frames are scaled to a standard deviation of 1, and the learning rate is larger and falls to zero, since
a processor makes hundreds of steps where the authors made 10,000 to 100,000. `share_of_schedule` says how much that is.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812

from denoscope.runtime import InvalidInput

__all__ = ["PEERS", "DeepCad", "Fast", "Peer", "SrdTrans", "Support", "TrainedPeer", "class_of", "train_peer"]

Movie = torch.Tensor  # (T, H, W), mean 0 and standard deviation 1
Rng = np.random.Generator


class Peer(Protocol):
    """A published method: its network, its loss, its way to denoise."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def learning_rate(self) -> float:
        """Largest rate."""

    @property
    def setting(self) -> str:
        """Settings that are smaller than published."""

    def build(self, folder: Path) -> torch.nn.Module:
        """Return the network with random weights, its class imported from the folder."""

    def loss(self, network: torch.nn.Module, movie: Movie, rng: Rng) -> torch.Tensor:
        """Return the loss of one step."""

    def denoise(self, network: torch.nn.Module, movie: Movie) -> Movie:
        """Return the denoised movie."""

    def voxels(self) -> int:
        """Return the pixels, over all frames, that one step sees."""

    def published_voxels(self, shape: tuple[int, ...]) -> float:
        """Return how many the published schedule sees of a movie of this shape."""


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        # Peers share names such as `model` and `utils`.
        for name in set(sys.modules) - before:
            places = [getattr(sys.modules[name], "__file__", None)]
            places += list(getattr(sys.modules[name], "__path__", []))
            if any(place and Path(place).is_relative_to(folder) for place in places):
                del sys.modules[name]
        # Last: without it, a folder of modules of the same name elsewhere would become the place of theirs.
        sys.path.remove(str(folder))


def class_of(folder: Path, module: str, name: str) -> Callable[..., torch.nn.Module]:
    """Import a class from somebody else's code, and forget their modules again.

    Raises
    ------
    InvalidInput
        If the folder holds no such class, or what it imports is not installed.
    """
    folder = folder.resolve()
    with _importing_from(folder):
        try:
            found: Callable[..., torch.nn.Module] = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise InvalidInput(
                f"{folder} gives no {module}.{name} ({error}): name the folder with the authors' README.md, and "
                "install what that asks for."
            ) from error
        except AttributeError as error:
            raise InvalidInput(
                f"{folder} has no class {name} in {module}: check out the authors' code."
            ) from error
    return found


def _mirrored(movie: Movie, before: int, after: int) -> Movie:
    """Return a movie with mirrored frames at both ends."""
    ends = np.pad(np.arange(len(movie)), (before, after), mode="reflect" if len(movie) > 1 else "edge")
    return movie[torch.from_numpy(ends)]


def _patch(movie: Movie, frames: int, edge: int, rng: Rng) -> Movie:
    """Return a random square part of a movie, turned and mirrored at random."""
    edge = min(edge, *movie.shape[1:])
    sizes = (frames, edge, edge)
    t, y, x = (int(rng.integers(0, whole - size + 1)) for whole, size in zip(movie.shape, sizes, strict=True))
    part = movie[t : t + sizes[0], y : y + sizes[1], x : x + sizes[2]]
    part = torch.rot90(part, int(rng.integers(4)), (1, 2))
    return part.flip(2) if rng.random() < 0.5 else part


def _starts(length: int, size: int, step: int) -> list[int]:
    return sorted({*range(0, length - size + 1, step), length - size})


def _in_blocks(network: torch.nn.Module, movie: Movie, frames: int, edge: int) -> Movie:
    """Denoise overlapping blocks and average them, their middle with more weight than their edge."""
    sizes = [min(frames, len(movie)), min(edge, movie.shape[1]), min(edge, movie.shape[2])]
    rises = [torch.from_numpy(np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1))).float() for n in sizes]
    weight = rises[0][:, None, None] * rises[1][None, :, None] * rises[2][None, None, :]
    total, weights = torch.zeros_like(movie), torch.zeros_like(movie)
    for t in _starts(len(movie), sizes[0], max(1, sizes[0] // 2)):
        for y in _starts(movie.shape[1], sizes[1], max(1, 3 * sizes[1] // 4)):
            for x in _starts(movie.shape[2], sizes[2], max(1, 3 * sizes[2] // 4)):
                here = np.s_[t : t + sizes[0], y : y + sizes[1], x : x + sizes[2]]
                total[here] += weight * network(movie[here][None, None])[0, 0]
                weights[here] += weight
    return total / weights


@dataclass(frozen=True)
class Support:
    """SUPPORT (Eom et al. 2023): each pixel from 30 frames before and after and from its surroundings.

    Attributes
    ----------
    absolute, squared
        Weights of the L1 and the L2 loss; 0.5 and 0.5 are published. L2 alone estimates the mean, the fair form where
        a pixel has few photons.
    hole
        Edge of the blind spot in pixels; 3 is the default of the published code.
    """

    absolute: float = 0.5
    squared: float = 0.5
    hole: int = 3
    frames: int = 61
    edge: int = 64
    batch: int = 2
    channels: tuple[int, ...] = (16, 32, 64, 128)
    blind_channels: int = 16
    learning_rate: float = 2e-3

    @property
    def name(self) -> str:
        """Name in tables."""
        return "support" if self.absolute else "support, L2"

    @property
    def setting(self) -> str:
        """Settings that are smaller than published."""
        return f"channels {self.channels[0]} to {self.channels[-1]} (64 to 1024), blind spot {self.hole} px"

    def build(self, folder: Path) -> torch.nn.Module:
        """Return the network."""
        return class_of(folder, "model.SUPPORT", "SUPPORT")(
            in_channels=self.frames,
            mid_channels=list(self.channels),
            depth=5,
            blind_conv_channels=self.blind_channels,
            one_by_one_channels=[32, 16],
            last_layer_channels=[64, 32, 16],
            bs_size=[self.hole, self.hole],
        )

    def loss(self, network: torch.nn.Module, movie: Movie, rng: Rng) -> torch.Tensor:
        """Return how far the predicted centre frames are off the noisy ones."""
        half = self.frames // 2
        longer = _mirrored(movie, half, half)
        stacks = torch.stack([_patch(longer, self.frames, self.edge, rng) for _ in range(self.batch)])
        made, target = network(stacks), stacks[:, half : half + 1]
        return self.absolute * F.l1_loss(made, target) + self.squared * F.mse_loss(made, target)

    def denoise(self, network: torch.nn.Module, movie: Movie) -> Movie:
        """Denoise frame by frame; the movie is mirrored at its ends."""
        half = self.frames // 2
        longer = _mirrored(movie, half, half)
        return torch.stack([network(longer[t : t + self.frames][None])[0, 0] for t in range(len(movie))])

    def voxels(self) -> int:
        """Return the pixels of one step's centre frames."""
        return self.batch * self.edge**2

    def published_voxels(self, shape: tuple[int, ...]) -> float:
        """Return 500 epochs of patches of 128 x 128 pixels, one a frame and 64 pixels."""
        places = [max(1, -(-(n - 128) // 64) + 1) for n in shape[1:]]
        return 500.0 * max(1, shape[0] - 60) * places[0] * places[1] * 128**2


@dataclass(frozen=True)
class DeepCad:
    """DeepCAD-RT (Li et al. 2022): a 3-D U-Net from every other frame to the frames between them."""

    frames: int = 32
    edge: int = 64
    maps: int = 16
    learning_rate: float = 1e-3
    name: str = "deepcad-rt"

    @property
    def setting(self) -> str:
        """Settings that are smaller than published."""
        return f"patches {self.frames} x {self.edge} x {self.edge} (150 x 150 x 150)"

    def build(self, folder: Path) -> torch.nn.Module:
        """Return the network."""
        inside = folder / "DeepCAD_RT_pytorch"
        source = inside if inside.is_dir() else folder
        return class_of(source, "deepcad.network", "Network_3D_Unet")(
            in_channels=1, out_channels=1, f_maps=self.maps, final_sigmoid=True
        )

    def loss(self, network: torch.nn.Module, movie: Movie, rng: Rng) -> torch.Tensor:
        """Return how far the even frames' prediction is off the odd ones, half L1 and half L2."""
        frames = min(self.frames, len(movie) // 2 // 8 * 8)
        part = _patch(movie, 2 * frames, self.edge, rng)
        first = int(rng.integers(2))
        given, target = part[first::2], part[1 - first :: 2]
        made = network(given[None, None])[0, 0]
        return 0.5 * F.l1_loss(made, target) + 0.5 * F.mse_loss(made, target)

    def denoise(self, network: torch.nn.Module, movie: Movie) -> Movie:
        """Denoise overlapping blocks of successive frames."""
        return _in_blocks(network, movie, min(2 * self.frames, len(movie) // 8 * 8), self.edge)

    def voxels(self) -> int:
        """Return the pixels of one step."""
        return self.frames * self.edge**2

    def published_voxels(self, shape: tuple[int, ...]) -> float:  # noqa: ARG002
        """Return 10 epochs of 6,000 patches, as in the demo."""
        return 10.0 * 6000 * 150**3


@dataclass(frozen=True)
class SrdTrans:
    """SRDTrans (Li et al. 2023): a transformer from a quarter of the pixels to two of their neighbours."""

    frames: int = 64
    edge: int = 64
    maps: tuple[int, ...] = (8, 16, 32, 64)
    learning_rate: float = 1e-3
    name: str = "srdtrans"

    @property
    def setting(self) -> str:
        """Settings that are smaller than published."""
        return f"patches {self.frames} x {self.edge} x {self.edge} (128 x 128 x 128)"

    def build(self, folder: Path) -> torch.nn.Module:
        """Return the network."""
        return class_of(folder, "SRDTrans", "SRDTrans")(
            img_dim=self.edge,
            img_time=self.frames,
            in_channel=1,
            embedding_dim=128,
            num_heads=8,
            hidden_dim=512,
            window_size=7,
            num_transBlock=1,
            attn_dropout_rate=0.1,
            f_maps=list(self.maps),
            input_dropout_rate=0,
        )

    def loss(self, network: torch.nn.Module, movie: Movie, rng: Rng) -> torch.Tensor:
        """Return how far the prediction from one pixel in four is off its two nearest neighbours."""
        part = _patch(movie, self.frames, self.edge, rng)
        own = torch.from_numpy(rng.integers(0, 4, (len(part), part.shape[1] // 2, part.shape[2] // 2)))
        four = _four(part)
        given = four.gather(1, own[:, None])[:, 0]
        made = network(given[None, None])[0, 0]
        total = made.new_zeros(())
        for other in (own ^ 1, own ^ 2):  # the neighbour in the row, and in the column
            target = four.gather(1, other[:, None])[:, 0]
            total = total + 0.25 * F.l1_loss(made, target) + 0.25 * F.mse_loss(made, target)
        return total

    def denoise(self, network: torch.nn.Module, movie: Movie) -> Movie:
        """Denoise overlapping blocks."""
        return _in_blocks(network, movie, self.frames, self.edge)

    def voxels(self) -> int:
        """Return the pixels of one step."""
        return self.frames * self.edge**2 // 4

    def published_voxels(self, shape: tuple[int, ...]) -> float:  # noqa: ARG002
        """Return 30 epochs of 6,000 patches."""
        return 30.0 * 6000 * 128 * 64 * 64


def _four(frames: torch.Tensor) -> torch.Tensor:
    """Return (T, 4, H/2, W/2): the four pixels of each block of two by two."""
    even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    return F.pixel_unshuffle(even[:, None], 2)


@dataclass(frozen=True)
class Fast:
    """FAST (2025): eight frames at once by a small 2-D network, from pixels to their neighbours in space and time."""

    frames: int = 8
    edge: int = 96
    maps: int = 64
    learning_rate: float = 1e-3
    name: str = "fast"

    @property
    def setting(self) -> str:
        """Settings that are smaller than published."""
        return f"patches of {self.edge} px (the whole frame), no weight decay"

    def build(self, folder: Path) -> torch.nn.Module:
        """Return the network."""
        return class_of(folder, "models.Unet_Lite", "Unet_Lite")(
            in_channels=self.frames,
            out_channels=self.frames,
            f_maps=[self.maps] * 3,
            num_groups=32,
            final_sigmoid=True,
        )

    def loss(self, network: torch.nn.Module, movie: Movie, rng: Rng) -> torch.Tensor:
        """Return the squared error to the neighbour of the next frame, that of means, and the consistency."""
        part = _patch(movie, self.frames + 1, self.edge, rng)
        part = part[:, : part.shape[1] // 8 * 8, : part.shape[2] // 8 * 8]
        swap = torch.from_numpy(rng.random(self.frames) < 0.5)[:, None, None]
        given, next_to = (torch.where(swap, a, b) for a, b in ((part[1:], part[:-1]), (part[:-1], part[1:])))
        own = torch.from_numpy(rng.integers(0, 4, (self.frames, part.shape[1] // 2, part.shape[2] // 2)))
        other = own ^ int(rng.integers(1, 3))
        with torch.no_grad():
            whole = network(given[None])[0]
        small, target, same = (
            _four(of).gather(1, at[:, None])[:, 0]
            for of, at in ((given, own), (next_to, other), (whole, own))
        )
        made = network(small[None])[0]
        means = made.new_zeros(())
        size = min(20, *made.shape[1:])
        for _ in range(10):
            y, x = (int(rng.integers(0, n - size + 1)) for n in made.shape[1:])
            here = np.s_[:, y : y + size, x : x + size]
            means = means + F.l1_loss(made[here].mean((1, 2)), target[here].mean((1, 2)))
        return F.mse_loss(made, target) + means + F.mse_loss(made, same)

    def denoise(self, network: torch.nn.Module, movie: Movie) -> Movie:
        """Denoise every eight successive frames; a frame is the mean of those it was in."""
        down, right = -movie.shape[1] % 8, -movie.shape[2] % 8
        longer = F.pad(movie[None], (0, right, 0, down), mode="reflect")[0]
        total, times = torch.zeros_like(longer), torch.zeros(len(movie), 1, 1)
        for t in range(len(movie) - self.frames + 1):
            total[t : t + self.frames] += network(longer[t : t + self.frames][None])[0]
            times[t : t + self.frames] += 1
        return (total / times)[:, : movie.shape[1], : movie.shape[2]]

    def voxels(self) -> int:
        """Return the pixels of one step."""
        return self.frames * self.edge**2

    def published_voxels(self, shape: tuple[int, ...]) -> float:
        """Return 100 epochs of every eight successive frames."""
        return 100.0 * max(1, shape[0] - 8) * 8 * shape[1] * shape[2]


PEERS: dict[str, tuple[Peer, ...]] = {
    "support": (Support(), Support(absolute=0.0, squared=1.0)),
    "deepcad-rt": (DeepCad(),),
    "srdtrans": (SrdTrans(),),
    "fast": (Fast(),),
}


@dataclass(frozen=True)
class TrainedPeer:
    """A network that was trained on a movie, and what that took.

    Attributes
    ----------
    steps, minutes
        Of the training; minutes of one processor thread.
    share_of_schedule
        Pixels seen over those of the published schedule.
    """

    peer: Peer
    network: torch.nn.Module
    mean: float
    deviation: float
    steps: int
    minutes: float
    share_of_schedule: float

    def denoise(self, noisy: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return a denoised movie (T, H, W) in raw counts."""
        self.network.eval()
        with torch.inference_mode():
            made = self.peer.denoise(self.network, self._scaled(noisy))
        return np.asarray(made.numpy() * self.deviation + self.mean, np.float32)

    def _scaled(self, noisy: npt.NDArray[Any]) -> Movie:
        return torch.from_numpy((np.asarray(noisy, np.float32) - self.mean) / self.deviation)


def train_peer(
    peer: Peer,
    folder: Path,
    noisy: npt.NDArray[Any],
    *,
    minutes: float,
    seed: int = 0,
    on_share: Callable[[float], None] = lambda _: None,
    clock: Callable[[], float] = time.process_time,
) -> TrainedPeer:
    """Train a peer's network on a noisy movie (T, H, W) for so many minutes of one processor thread."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = peer.build(folder).train()
    trained = TrainedPeer(peer, network, float(np.mean(noisy)), float(np.std(noisy)), 0, 0.0, 0.0)
    movie = trained._scaled(noisy)
    optimizer = torch.optim.Adam(network.parameters(), lr=peer.learning_rate)
    started, steps, used = clock(), 0, 0.0
    while used < 60 * minutes:
        share = used / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = peer.learning_rate * min(1.0, 2 * (1 - share))
        optimizer.zero_grad()
        peer.loss(network, movie, rng).backward()
        optimizer.step()
        steps += 1
        used = clock() - started
        on_share(min(1.0, used / (60 * minutes)))
    seen = steps * peer.voxels() / peer.published_voxels(noisy.shape)
    return TrainedPeer(peer, network, trained.mean, trained.deviation, steps, used / 60, seen)
