"""``denoscope doctor``: what this computer has, what would stop a recording, and what would make it better."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from denoscope.acquisition.errors import one_line

from .compute import (
    check_auto,
    check_backends,
    check_bundles,
    check_gpu,
    check_onnxruntime,
    check_openvino,
    check_tensorrt,
)
from .finding import Finding, Status
from .machine import installed
from .recording import check_cores, check_disk, check_micromanager

__all__ = ["doctor"]


def doctor(output: Path = Path(), *, reserve_mb: float = 200.0) -> dict[str, Any]:
    """Look at everything a recording needs; nothing is changed.

    Parameters
    ----------
    output
        Folder that recordings would be written to; it need not exist yet.
    reserve_mb
        Disk space in MB that a recording leaves free.

    Returns
    -------
    dict
        ``can_record``: whether nothing would stop a recording. ``findings``: a list of ``topic``,
        ``status`` (``ok``, ``note``, ``improve``, ``broken``), ``found``, ``remedy`` (a command or a
        sentence, or None) and ``facts``. ``denoscope``, ``python`` and ``platform``.
    """
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
    return {
        "can_record": all(finding.status is not Status.BROKEN for finding in findings),
        "findings": [finding.to_dict() for finding in findings],
        "denoscope": installed("denoscope") or "unknown",
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _run(topic: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run one check; when it fails itself, that is a finding, and the others go on."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a broken library may raise anything when it is asked
        found = f"it could not be examined: {type(error).__name__}: {one_line(error)}"
        return [Finding(topic, Status.IMPROVE, found, "reinstall what the message names")]
