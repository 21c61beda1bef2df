"""The bundle of a session, kept in its run folder, so that what was skipped can be computed later."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.read_whole import read_whole
from denoscope.acquisition.results import SessionProvenance
from denoscope.runtime import BundleNotFound, InvalidInput, list_bundles

if TYPE_CHECKING:
    from denoscope.runtime import Bundle

__all__ = ["KEPT_BUNDLE", "bundle_in_log", "bundle_of", "bundles_of", "keep_bundle"]

KEPT_BUNDLE = "bundle.denoscope"


def keep_bundle(bundle: str, run: Path) -> str | None:
    """Copy the bundle of a session into its run folder; a shipped one is known by its name.

    Parameters
    ----------
    bundle
        As the user named it.
    run
        Run folder.

    Returns
    -------
    str or None
        Absolute path of the bundle; None for a shipped one.

    Raises
    ------
    DenoscopeError
        When the bundle cannot be read any more.
    OSError
        When the disk refuses.
    """
    from denoscope.runtime import Bundle

    if bundle in list_bundles():
        return None
    model = Bundle.load(bundle)
    model.save(run / KEPT_BUNDLE)
    return str(Path(bundle).absolute())


def bundle_in_log(run: Path) -> SessionProvenance:
    """Return which bundles and look-ahead a session had, where a crash left its log and no report."""
    try:
        lines = read_whole(run / "log.jsonl", "event log").splitlines()
        opened = next(each for each in map(json.loads, lines) if each["event"] == "opened")
        denoiser = opened["denoiser"]
        known = {name: denoiser[name] for name in ("bundle", "bundle_sha256", "look_ahead")}
        swaps = [
            json.loads(line) for line in lines if b'"event": "bundle changed"' in line and line.endswith(b"}")
        ]
        return SessionProvenance.model_validate({**known, "swaps": swaps})
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return SessionProvenance()


def bundle_of(run: Path, denoiser: SessionProvenance, asked: str | None) -> Bundle:
    """Load the bundle that a session used.

    Parameters
    ----------
    run
        Run folder.
    denoiser
        Of the session; that of an empty one after a crash.
    asked
        Bundle that the user names; None for the session's.

    Raises
    ------
    InvalidInput
        When it cannot be found, or is another one than the session used.
    """
    from denoscope.runtime import Bundle

    kept = run / KEPT_BUNDLE
    name, path = denoiser.bundle, denoiser.bundle_path
    places = [str(place) for place in (kept, path) if place and Path(place).is_dir()]
    place = asked or (places[0] if places else path or name)
    try:
        model = Bundle.load(place)
    except BundleNotFound as error:
        if asked is not None:
            raise
        raise InvalidInput(
            f"the session used the bundle {path or name}, which is not there any more: name it with `bundle`."
        ) from error
    if model.manifest.two_sided:
        raise InvalidInput(
            f"{model.manifest.name} denoises whole movies and cannot continue what a session began: leave `bundle` "
            f"out, or denoise the whole recording with it (denoscope denoise {run})."
        )
    wanted = denoiser.bundle_sha256 or model.digest
    if model.digest == wanted:
        return model
    what = f"the session used the bundle {name} with SHA-256 {wanted[:12]}..., and {place} has {model.digest[:12]}..."
    if asked is None:
        raise InvalidInput(f"{what}: it was changed since; name a copy of the session's with `bundle`.")
    raise InvalidInput(f"{what}: name the session's with `bundle`.")


def bundles_of(
    run: Path, denoiser: SessionProvenance, asked: str | None
) -> list[tuple[float, float, Bundle]]:
    """Load all bundles that a session used, each with the pages of ``raw.tif`` that it was in use for.

    Parameters
    ----------
    run, denoiser, asked
        As for `bundle_of`, which finds the first of them.

    Returns
    -------
    list of (float, float, Bundle)
        First page, page after the last one (infinite for the last bundle), and the bundle.

    Raises
    ------
    InvalidInput
        When one cannot be found, or is another one than the session used.
    """
    from denoscope.runtime import Bundle

    starts, bundles = [0.0], [bundle_of(run, denoiser, asked)]
    for swap in denoiser.swaps:
        again = next((each for each in bundles if each.digest == swap.bundle_sha256), None)
        if again is not None:  # the one after it failed
            starts.append(float(swap.frame))
            bundles.append(again)
            continue
        place = run / Path(swap.bundle).name
        try:
            model = Bundle.load(place)
        except BundleNotFound as error:
            raise InvalidInput(
                f"from frame {swap.frame} on the session used {swap.bundle}, which is not in {run} any more: put a "
                "copy of it there."
            ) from error
        if model.digest != swap.bundle_sha256:
            raise InvalidInput(
                f"from frame {swap.frame} on the session used {swap.bundle} with SHA-256 {swap.bundle_sha256[:12]}..., "
                f"and {place} has {model.digest[:12]}...: put a copy of the session's there."
            )
        starts.append(float(swap.frame))
        bundles.append(model)
    return list(zip(starts, [*starts[1:], math.inf], bundles, strict=True))
