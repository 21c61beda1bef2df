"""Write a trained network as a bundle: manifest, weights, graphs and a card that people can read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from denoscope.export._onnx import export_graphs
from denoscope.runtime import Bundle, BundleManifest, Intensity, InvalidInput, QualityRecord, write_bundle
from denoscope.train import LiveNet, LiveSettings

__all__ = ["export_bundle", "load_network"]


def export_bundle(
    network: LiveNet,
    folder: Path,
    *,
    name: str,
    trained_on: Sequence[str],
    quality: Sequence[QualityRecord] = (),
    intensity: Intensity | None = None,
    notes: str = "",
) -> Bundle:
    """Export a network and write it as a bundle folder.

    Parameters
    ----------
    network
        The trained network.
    folder
        Where to write, `NAME.denoscope`; an existing bundle there is replaced in one step.
    name
        The bundle's name.
    trained_on
        One line for each thing it learned from.
    quality
        What was measured, and on what.
    intensity
        Transform to freeze into the bundle; None lets every session estimate its own.
    notes
        Added to the card.

    Returns
    -------
    Bundle
        The bundle just written, loaded and checked.
    """
    settings = network.settings
    manifest = BundleManifest(
        schema_version=1,
        name=name,
        method="live",
        window=settings.window,
        look_ahead=settings.look_ahead,
        stride=network.stride,
        scale=network.scale,
        feature_channels=settings.feature_channels,
        memory_decay=settings.memory_decay,
        memory_channels=settings.memory_channels,
        calibration_frames=32,
        intensity=intensity,
        trained_on=list(trained_on),
        quality=list(quality),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        license="BSD-3-Clause",
        files={},
    )
    files = export_graphs(network)
    files["weights.safetensors"] = save(
        {k: v.contiguous() for k, v in network.state_dict().items()},
        metadata={"settings": json.dumps(settings.to_dict())},
    )
    files["README.md"] = _card(manifest, network, notes).encode()
    write_bundle(folder, manifest, files)
    return Bundle.load(folder)


def load_network(bundle: Bundle) -> LiveNet:
    """Return the torch network of a `live` bundle, to adapt it or to compare with its graphs."""
    if bundle.manifest.method != "live":
        raise InvalidInput(
            f"The bundle {bundle.manifest.name} holds the method {bundle.manifest.method}; "
            "only `live` can be trained on."
        )
    with safe_open(bundle.folder / "weights.safetensors", framework="pt") as file:
        stored = json.loads((file.metadata() or {})["settings"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = LiveNet(LiveSettings(**{**stored, "memory_decay": tuple(stored["memory_decay"])}))
    network.load_state_dict(weights)
    return network.eval()


def _card(manifest: BundleManifest, network: LiveNet, notes: str) -> str:
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        f"# {manifest.name}",
        "",
        f"Method `{manifest.method}`: window of {manifest.window} frames, look-ahead up to {manifest.look_ahead}, "
        f"long memory of {', '.join(f'{d:g}' for d in manifest.memory_decay)} frames, {parameters:,} parameters.",
        "",
        "## Trained on",
        "",
        *(f"- {line}" for line in manifest.trained_on),
    ]
    if manifest.quality:
        lines += ["", "## Measured", "", "| movie | metric | this model | baseline |", "|---|---|---|---|"]
        lines += [
            f"| {q.movie} | {q.metric} | {q.value:.4g} | {q.baseline:.4g} ({q.baseline_name}) |"
            for q in manifest.quality
        ]
    if notes:
        lines += ["", notes]
    return "\n".join(lines) + "\n"
