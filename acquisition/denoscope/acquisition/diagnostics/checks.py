"""``denoscope doctor``: what this computer has, what would stop a recording, and what would make it better."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from denoscope.acquisition.errors import one_line
from denoscope.runtime import InvalidInput, bad_link

from .compute import (
    check_auto,
    check_backends,
    check_bundles,
    check_gpu,
    check_onnxruntime,
    check_openvino,
    check_tensorrt,
)
from .finding import Finding, Findings, Status
from .machine import installed
from .recording import check_cores, check_disk, check_micromanager

__all__ = ["doctor"]


def doctor(output: Path | str = Path(), *, reserve_mb: float = 200.0) -> Findings:
    """Check everything that a recording needs; nothing is changed.

    Parameters
    ----------
    output
        Existing folder that recordings would be written to; a small file there measures the disk.
    reserve_mb
        Disk space in MB that a recording leaves free.

    Returns
    -------
    Findings
        Whether a recording would run, and for each thing that was looked at what was found and what to do.

    Raises
    ------
    InvalidInput
        If `output` is no existing folder.

    Examples
    --------
    >>> found = doctor(".")
    >>> [finding.found for finding in found.findings if finding.topic == "bundle live"]
    ['intact, window of 7 frames, look-ahead up to 3']
    """
    output = Path(output)
    if (why := bad_link(output)) is not None:
        raise InvalidInput(f"`output` cannot be used: {why}; name a folder.")
    if not output.is_dir():
        what = "is a file" if output.exists() else "does not exist"
        raise InvalidInput(
            f"`output` {output} {what}: name a folder that exists, on the disk that recordings would be written to."
        )
    checks: Sequence[tuple[str, Callable[[], list[Finding]]]] = (
        ("processor", check_cores),
        ("GPU", check_gpu),
        ("TensorRT", check_tensorrt),
        ("ONNX Runtime", check_onnxruntime),
        ("OpenVINO", check_openvino),
        ("backends", check_backends),
        ("auto", check_auto),
        ("bundles", check_bundles),
        ("Micro-Manager", check_micromanager),
        ("disk", lambda: check_disk(output, reserve_mb)),
    )
    findings = [finding for topic, check in checks for finding in _run(topic, check)]
    return Findings(
        can_record=all(finding.status is not Status.BROKEN for finding in findings),
        findings=findings,
        denoscope=installed("denoscope") or "unknown",
        python=platform.python_version(),
        platform=platform.platform(),
    )


def _run(topic: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run one check; when it fails itself, that is a finding, and the others go on."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a broken library may raise anything when it is asked
        found = f"it could not be examined: {type(error).__name__}: {one_line(error)}"
        return [Finding(topic, Status.IMPROVE, found, "reinstall what the message names")]
