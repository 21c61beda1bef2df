"""The bundle: a trained, exported model folder, the only thing that passes between the parts on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from denoscope.runtime.errors import BundleDamaged, BundleNotFound, InvalidInput
from denoscope.runtime.noise.noise import Intensity

from .graph_check import Grid, check_graph, expected_names
from .regular_file import NotReadable, read_regular, regular_size
from .shared_weights import fill_in, read_weights, take_out

__all__ = ["Bundle", "BundleManifest", "QualityRecord", "checksum_of", "list_bundles", "write_bundle"]

MANIFEST = "bundle.json"
WEIGHTS = "weights.safetensors"
CARD = "README.md"
SUFFIX = ".denoscope"
_SHIPPED = Path(__file__).parents[1] / "bundles"
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # file browsers leave these anywhere
_MANIFEST_LIMIT = 1 << 20
_BUNDLE_LIMIT = 1 << 29  # bytes of all its files; the largest shipped bundle has 7 million

Graphs = Literal["encode", "motion", "align", "recall", "remember", "fuse"]
Count = Annotated[int, Field(ge=1, le=4096)]  # shipped: 28 channels, strides of 4


class QualityRecord(BaseModel):
    """One measured number of a bundle beside the best simple filter's.

    Attributes
    ----------
    movie
        What it was measured on.
    metric
        For example `PSNR (dB, peak = clean maximum)`.
    value, baseline
        The bundle's number and the baseline's.
    baseline_name
        What the baseline is and how it was set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    movie: str
    metric: str
    value: FiniteFloat
    baseline: FiniteFloat
    baseline_name: str = ""


class BundleManifest(BaseModel):
    """Contents of `bundle.json`; unknown keys are refused.

    Attributes
    ----------
    schema_version
        Of this page. 1: every graph holds all its weights; 2: it may name those that lie in
        `weights.safetensors`.
    name
        The bundle's name.
    method
        `live`, `umvd` or `sts-uvd`.
    window
        N, frames in a window, odd; the centre is index N // 2.
    look_ahead
        Frames after the centre that the bundle was made for; the default and the most a stream may use.
    stride
        Frame height and width are padded to a multiple of this.
    scale
        Features are (H / scale, W / scale).
    feature_channels
        F, channels of the features.
    memory_decay
        Time constants of the long memory, in frames; empty for none.
    memory_channels
        M, channels of the long memory; 0 for none.
    two_sided
        Whether the long memory also holds what comes after the window, behind what came before it: for recorded
        movies. The runtime makes both halves from the frames themselves, so there is no `remember`.
    flow_scale
        Flows between neighbouring frames are (2, H / flow_scale, W / flow_scale); 0 for a bundle
        without `motion`.
    subpixel
        Whether it has `align` and `recall`, which register the frames and the long memory of a moving scene to a
        fraction of a pixel, each place by its own displacement (`_field`).
    predicts_std
        Whether `fuse` gives a standard deviation beside the mean.
    calibration_frames
        Frames from which a session estimates its intensity transform.
    intensity
        A frozen transform, or None to estimate one for each session.
    trained_on
        One line for each thing it learned from.
    quality
        What was measured.
    created
        Date and time, ISO 8601.
    license
        Of the weights.
    files
        SHA-256 of every other file, by name. Filled in by `write_bundle`.
    checksum
        SHA-256 of this manifest's own content without this field. Filled in by `write_bundle`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    schema_version: Literal[1, 2] = 2
    name: Annotated[str, Field(min_length=1, max_length=100)]
    method: Literal["live", "umvd", "sts-uvd"]
    window: Annotated[int, Field(ge=3, le=63)]
    look_ahead: Annotated[int, Field(ge=0)]
    stride: Count
    scale: Count
    feature_channels: Count
    memory_decay: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0)], ...], Field(max_length=64)] = ()
    memory_channels: Annotated[int, Field(ge=0, le=4096)] = 0
    two_sided: bool = False
    flow_scale: Annotated[int, Field(ge=0, le=4096)] = 0
    subpixel: bool = False
    predicts_std: bool = True
    calibration_frames: Count = 32
    intensity: Intensity | None = None
    trained_on: list[str] = []
    quality: list[QualityRecord] = []
    created: str = ""
    license: str = ""
    files: dict[str, str] = {}
    checksum: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError(f"window is {self.window}; it must be odd")
        if self.look_ahead > self.window // 2:
            raise ValueError(
                f"look_ahead is {self.look_ahead}; it must be at most window // 2 = {self.window // 2}"
            )
        if self.stride % self.scale:
            raise ValueError(f"stride is {self.stride}; it must be a multiple of scale = {self.scale}")
        if bool(self.memory_decay) != bool(self.memory_channels):
            raise ValueError("memory_decay and memory_channels must both be empty or both be given")
        if self.two_sided and self.memory_channels != (wanted := 2 * len(self.memory_decay) * self.scale**2):
            raise ValueError(
                f"memory_channels is {self.memory_channels}; with two_sided it must be {wanted}, and not 0"
            )
        if self.two_sided and not self.memory_decay:
            raise ValueError("two_sided needs time constants in memory_decay")
        if self.flow_scale and self.stride % self.flow_scale:
            raise ValueError(
                f"stride is {self.stride}; it must be a multiple of flow_scale = {self.flow_scale}"
            )
        return self

    @property
    def memories(self) -> int:
        """Number of averages in the long memory, on both sides."""
        return len(self.memory_decay) * (2 if self.two_sided else 1)

    @property
    def graphs(self) -> tuple[Graphs, ...]:
        """The graphs of the bundle; some only where it has flows, a long memory, or follows a scene's parts."""
        present: dict[Graphs, bool] = {
            "encode": True,
            "motion": self.flow_scale > 0,
            "align": self.subpixel,
            "recall": self.subpixel and bool(self.memory_decay),
            "remember": bool(self.memory_decay) and not self.two_sided,
            "fuse": True,
        }
        return tuple(name for name, there in present.items() if there)


class Bundle:
    """A checked bundle: its manifest, and its graphs as they were when their checksums were verified.

    Attributes
    ----------
    folder
        Where it lies.
    manifest
        What `bundle.json` says.
    """

    def __init__(self, folder: Path, manifest: BundleManifest, graphs: Mapping[str, bytes]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._graphs = dict(graphs)

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.name!r}, {str(self.folder)!r})"

    @classmethod
    def load(cls, bundle: str | os.PathLike[str]) -> Bundle:
        """Load a bundle and check every file of it.

        Parameters
        ----------
        bundle
            A folder, or the name of a shipped bundle (`list_bundles`).

        Raises
        ------
        BundleNotFound
            If no bundle lies there and no shipped one has that name.
        BundleDamaged
            If a file is missing, surplus, changed, too large or no regular file; an ONNX graph has weights outside
            itself, other inputs and outputs than a bundle's, or would take gigabytes or minutes; or the weights'
            header cannot be read.
        """
        folder = _find(bundle)
        manifest = _read_manifest(folder)
        required = {WEIGHTS, *(f"{g}.onnx" for g in manifest.graphs)}
        _check_listing(folder, manifest, required)
        _check_size(folder, manifest)
        files = {name: _read_checked(folder, name, digest) for name, digest in manifest.files.items()}
        grid = Grid(manifest.stride, manifest.scale, manifest.flow_scale)
        weights = read_weights(files[WEIGHTS], WEIGHTS)
        graphs: dict[str, bytes] = {}
        for graph in manifest.graphs:
            names = expected_names(
                graph,
                manifest.window,
                memory=bool(manifest.memory_decay),
                motion=manifest.flow_scale > 0,
                std=manifest.predicts_std,
            )
            data = files[f"{graph}.onnx"]
            if manifest.schema_version > 1:
                data = fill_in(f"{graph}.onnx", data, weights)
            check_graph(f"{graph}.onnx", data, names, grid)
            graphs[graph] = data
        return cls(folder, manifest, graphs)

    @property
    def digest(self) -> str:
        """SHA-256 over the manifest, and through its checksums over every file: the bundle's identity."""
        return self.manifest.checksum

    def graph_bytes(self, graph: str) -> bytes:
        """Return a graph as serialised ONNX; `graph` is one of the manifest's `graphs`."""
        if graph not in self._graphs:
            raise InvalidInput(
                f"The bundle {self.manifest.name} has no graph {graph!r}: "
                f"choose one of {', '.join(self._graphs)}."
            )
        return self._graphs[graph]

    def save(self, folder: str | os.PathLike[str]) -> Bundle:
        """Write a copy of the bundle to another folder, checked again, and return it."""
        files = {
            name: _read_checked(self.folder, name, digest) for name, digest in self.manifest.files.items()
        }
        write_bundle(folder, self.manifest, files)
        return Bundle.load(Path(folder))


def list_bundles() -> tuple[str, ...]:
    """Return the names of the shipped bundles.

    Returns
    -------
    tuple of str
        Names that `Bundle.load` takes, in alphabetical order.

    Examples
    --------
    >>> list_bundles()
    ('live', 'live-fast', 'live-hq', 'recorded')
    """
    return tuple(sorted(p.parent.name.removesuffix(SUFFIX) for p in _SHIPPED.glob(f"*{SUFFIX}/{MANIFEST}")))


def write_bundle(
    folder: str | os.PathLike[str], manifest: BundleManifest, files: Mapping[str, bytes]
) -> None:
    """Write a bundle folder in one step: it is there complete, or not at all.

    Parameters
    ----------
    folder
        Where to write; an older bundle there is replaced.
    manifest
        Its `files` and `checksum` are filled in.
    files
        Content by name: `weights.safetensors`, `encode.onnx`, `fuse.onnx`, `motion.onnx` when there are
        flows, `remember.onnx` when there is a long memory, and `README.md`, the card, if wanted. Graphs have their
        weights inside; those that lie in `weights.safetensors` too are written there only.

    Raises
    ------
    InvalidInput
        If a file is missing or unknown, or something that is no bundle lies at `folder`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from denoscope.runtime import Bundle, write_bundle
    >>> live = Bundle.load("live-fast")
    >>> files = {path.name: path.read_bytes() for path in live.folder.iterdir() if path.name != "bundle.json"}
    >>> with TemporaryDirectory() as folder:
    ...     write_bundle(f"{folder}/copy.denoscope", live.manifest, files)
    ...     Bundle.load(f"{folder}/copy.denoscope").manifest.method
    'live'
    """
    target = Path(folder)
    required = {WEIGHTS, *(f"{g}.onnx" for g in manifest.graphs)}
    missing, unknown = required - set(files), set(files) - required - {CARD}
    if missing or unknown:
        raise InvalidInput(
            f"A bundle of this kind holds {', '.join(sorted(required))} and may hold {CARD}; "
            f"missing: {', '.join(sorted(missing)) or 'none'}; "
            f"unknown: {', '.join(sorted(unknown)) or 'none'}."
        )
    if target.exists() and not (target / MANIFEST).is_file():
        raise InvalidInput(
            f"{target} exists and is no bundle: choose another folder, nothing was overwritten."
        )
    files = _stored(manifest, files)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    complete = manifest.model_copy(update={"files": digests, "checksum": ""})
    complete = complete.model_copy(update={"checksum": checksum_of(complete.model_dump(mode="json"))})
    text = json.dumps(complete.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        new = draft / "new"
        new.mkdir()
        for name, data in {**files, MANIFEST: text.encode()}.items():
            with (new / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            target.rename(draft / "old")
        new.rename(target)
    finally:
        shutil.rmtree(draft)


def _stored(manifest: BundleManifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files as they are written: weights that lie in their own file are taken out of the graphs."""
    if manifest.schema_version == 1:
        return dict(files)
    with contextlib.suppress(BundleDamaged):  # said when the bundle is loaded
        weights = read_weights(files[WEIGHTS], WEIGHTS)
        return {
            name: take_out(data, weights) if name.endswith(".onnx") else data for name, data in files.items()
        }
    return dict(files)


def _find(bundle: str | os.PathLike[str]) -> Path:
    path = Path(bundle)
    if isinstance(bundle, str) and not {"/", "\\", os.sep} & set(bundle):
        shipped = _SHIPPED / (bundle.removesuffix(SUFFIX) + SUFFIX)
        if bundle in list_bundles():
            return shipped
    if os.path.lexists(path / MANIFEST):  # a pipe or a device gets its own sentence when it is read
        return path
    names = ", ".join(list_bundles()) or "none"
    if path.is_dir():
        raise BundleNotFound(
            f"The folder {path} holds no {MANIFEST}, so it is no bundle: name a bundle's folder."
        )
    raise BundleNotFound(
        f"There is no bundle {str(bundle)!r}: name a bundle's folder or one of the shipped bundles ({names})."
    )


def _read_manifest(folder: Path) -> BundleManifest:
    advice = "copy the bundle again from where it came from, or export it again"
    raw = _read(folder, MANIFEST, _MANIFEST_LIMIT)
    try:
        content = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BundleDamaged(f"{MANIFEST} in {folder} is not readable ({error}): {advice}.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > 2:
        raise BundleDamaged(
            f"The bundle {folder} has schema version {version}; this denoscope reads versions 1 and 2: "
            "update denoscope."
        )
    try:
        manifest = BundleManifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the manifest"
        raise BundleDamaged(
            f"{MANIFEST} in {folder} is wrong at {place} ({first['msg']}): {advice}."
        ) from error
    if manifest.checksum != checksum_of(content):
        raise BundleDamaged(f"{MANIFEST} in {folder} does not match its own checksum: {advice}.")
    return manifest


def checksum_of(content: dict[str, object]) -> str:
    """Return the SHA-256 of a manifest, of all but the checksum in it."""
    kept = {key: value for key, value in content.items() if key != "checksum"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_listing(folder: Path, manifest: BundleManifest, required: set[str]) -> None:
    present = {p.name for p in folder.iterdir()} - _LITTER - {MANIFEST}
    listed = set(manifest.files)
    if missing := (required | listed) - present:
        raise BundleDamaged(
            f"The bundle {folder} lacks {', '.join(sorted(missing))}: copy or export it again."
        )
    if unlisted := required - listed:
        raise BundleDamaged(
            f"{MANIFEST} in {folder} does not list {', '.join(sorted(unlisted))}: export it again."
        )
    if surplus := (present | listed) - required - {CARD}:
        raise BundleDamaged(
            f"The bundle {folder} holds {', '.join(sorted(surplus))}, which belong to no bundle: "
            "move them elsewhere."
        )
    if surplus := present - listed:
        raise BundleDamaged(
            f"The bundle {folder} holds {', '.join(sorted(surplus))} without a checksum: move it elsewhere."
        )


def _check_size(folder: Path, manifest: BundleManifest) -> None:
    """Refuse a bundle that holds anything but regular files, or more of them than fits, before any is read."""
    total = 0
    for name in manifest.files:
        try:
            total += regular_size(folder / name)
        except NotReadable as error:
            raise _unreadable(folder, name, error) from error
        if total > _BUNDLE_LIMIT:
            raise BundleDamaged(
                f"The bundle {folder} has more than {_BUNDLE_LIMIT} bytes with {name}, and no more are read: "
                "copy it again from where it came from, or export it again."
            )


def _read(folder: Path, name: str, limit: int) -> bytes:
    try:
        return read_regular(folder / name, limit)
    except NotReadable as error:
        raise _unreadable(folder, name, error) from error


def _unreadable(folder: Path, name: str, reason: NotReadable) -> BundleDamaged:
    return BundleDamaged(
        f"{name} in {folder} {reason}: copy the bundle again from where it came from, or export it again."
    )


def _read_checked(folder: Path, name: str, digest: str) -> bytes:
    data = _read(folder, name, _BUNDLE_LIMIT)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise BundleDamaged(
            f"{name} in {folder} has the SHA-256 {found[:12]}… instead of {digest[:12]}…: "
            "it was changed or damaged, copy the bundle again or export it again."
        )
    return data
