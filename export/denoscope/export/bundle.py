"""Write a trained network as a bundle: manifest, weights, graphs and a card that people can read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from denoscope.export.graphs import export_graphs
from denoscope.export.split import AnyNetwork, needs_flow, split
from denoscope.runtime import (
    Bundle,
    BundleManifest,
    Intensity,
    InvalidInput,
    QualityRecord,
    counted,
    write_bundle,
)
from denoscope.train import LiveNet, LiveNetSettings, StsUvd, StsUvdSettings, Umvd, UmvdSettings
from denoscope.train.flow.net import FlowNet, FlowSettings, load_flow

__all__ = ["export_bundle", "load_bundle_flow", "load_network"]

_FLOW = "flow."  # before the names of the flow network's weights, in `live` as in `sts-uvd`


def export_bundle(
    network: AnyNetwork,
    folder: Path,
    *,
    name: str,
    trained_on: Sequence[str],
    quality: Sequence[QualityRecord] = (),
    intensity: Intensity | None = None,
    notes: str = "",
    flow: nn.Module | None = None,
) -> Bundle:
    """Export a network and write it as a bundle folder.

    Parameters
    ----------
    network
        The trained network of any method.
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
    flow
        STS-UVD only: the flow network that goes with it, the shipped one when None.

    Returns
    -------
    Bundle
        The bundle just written, loaded and checked.
    """
    if needs_flow(network) and flow is None:
        flow = load_flow()
    parts = split(network, flow)
    manifest = BundleManifest(
        schema_version=2,
        name=name,
        method=parts.method,
        window=parts.window,
        look_ahead=parts.look_ahead,
        stride=parts.stride,
        scale=parts.scale,
        feature_channels=parts.feature_channels,
        memory_decay=parts.memory_decay,
        memory_channels=parts.memory_channels,
        two_sided=parts.two_sided,
        flow_scale=parts.flow_scale,
        subpixel=parts.align is not None,
        predicts_std=parts.predicts_std,
        calibration_frames=32,
        intensity=intensity,
        trained_on=list(trained_on),
        quality=list(quality),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        license="BSD-3-Clause",
        files={},
    )
    files = export_graphs(network, flow)
    files["weights.safetensors"] = _weights(network, flow)
    files["README.md"] = _card(manifest, network, notes).encode()
    write_bundle(folder, manifest, files)
    return Bundle.load(folder)


def _weights(network: AnyNetwork, flow: nn.Module | None) -> bytes:
    """Return the weights with the settings that are needed to build the networks again."""
    inner = getattr(network, "flow", None) if flow is None else flow
    settings = {"settings": json.dumps(asdict(network.settings))}
    if isinstance(inner, FlowNet):
        settings["flow_settings"] = json.dumps(inner.settings.to_dict())
    weights = dict(network.state_dict())
    if flow is not None:
        weights |= {_FLOW + name: value for name, value in flow.state_dict().items()}
    return save({name: value.contiguous() for name, value in weights.items()}, metadata=settings)


def load_network(bundle: Bundle) -> AnyNetwork:
    """Return the torch network of a bundle, to adapt it or to compare with its graphs.

    Parameters
    ----------
    bundle
        Of any method. The flow network of a `sts-uvd` bundle is returned by `load_bundle_flow`.

    Returns
    -------
    LiveNet, UMVD or STSUVD
        On the CPU, for evaluation.

    Examples
    --------
    >>> from denoscope.runtime import Bundle
    >>> load_network(Bundle.load("live-fast")).settings.window
    7
    """
    stored, weights = _stored(bundle)
    network = _EMPTY[bundle.manifest.method](stored)
    network.load_state_dict({name: value for name, value in weights.items() if name in network.state_dict()})
    return network.eval()


def load_bundle_flow(bundle: Bundle) -> FlowNet:
    """Return the flow network that a bundle's `motion` was exported from.

    Parameters
    ----------
    bundle
        A bundle of a guided `live` network or of STS-UVD.

    Returns
    -------
    FlowNet
        On the CPU, for evaluation.

    Raises
    ------
    InvalidInput
        If the bundle has no flow network.
    """
    stored, weights = _stored(bundle)
    if "flow_settings" not in stored:
        raise InvalidInput(
            f"The bundle {bundle.manifest.name} ({bundle.manifest.method}) has no flow network: "
            "choose one that was exported with it."
        )
    network = FlowNet(FlowSettings(**json.loads(stored["flow_settings"])))
    named = {n.removeprefix(_FLOW): value for n, value in weights.items() if n.startswith(_FLOW)}
    network.load_state_dict(named)
    return network.eval()


def _stored(bundle: Bundle) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(bundle.folder / "weights.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, weights


def _empty_live(stored: dict[str, str]) -> LiveNet:
    values = json.loads(stored["settings"])
    values = {"blind_depth": 0, "calibrated": False, **values}  # what earlier bundles of 2026 lack
    settings = LiveNetSettings(**{**values, "memory_decay": tuple(values["memory_decay"])})
    flow = FlowNet(FlowSettings(**json.loads(stored["flow_settings"]))) if settings.guided else None
    return LiveNet(settings, flow)


def _empty_umvd(stored: dict[str, str]) -> Umvd:
    return Umvd(UmvdSettings(**json.loads(stored["settings"])))


def _empty_sts_uvd(stored: dict[str, str]) -> StsUvd:
    return StsUvd(StsUvdSettings(**json.loads(stored["settings"])))


_EMPTY: dict[str, Callable[[dict[str, str]], AnyNetwork]] = {
    "live": _empty_live,
    "umvd": _empty_umvd,
    "sts-uvd": _empty_sts_uvd,
}


def _card(manifest: BundleManifest, network: AnyNetwork, notes: str) -> str:
    parameters = sum(p.numel() for p in network.parameters())
    memory = ", ".join(f"{d:g}" for d in manifest.memory_decay)
    lines = [
        f"# {manifest.name}",
        "",
        f"Method `{manifest.method}`: window of {counted(manifest.window, 'frame')}, look-ahead up to "
        f"{manifest.look_ahead}, "
        f"{f'long memory of {memory} frames' if memory else 'no long memory'}"
        f"{' on both sides' if manifest.two_sided else ''}, {parameters:,} parameters.",
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
