"""Checks of what runs a bundle: GPU, libraries, backends, bundles."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from denoscope.acquisition.errors import one_line
from denoscope.runtime import counted
from denoscope.runtime.backends.onnxruntime_library import onnxruntime_library
from denoscope.runtime.backends.openvino import openvino_library

from .finding import Finding, Status
from .gpu import Driver, find_driver
from .machine import installed

if TYPE_CHECKING:
    from denoscope.runtime import Bundle

__all__ = [
    "check_auto",
    "check_backends",
    "check_bundles",
    "check_gpu",
    "check_onnxruntime",
    "check_openvino",
    "check_tensorrt",
    "judge_driver",
    "judge_onnxruntime",
]

_DEFAULT_BUNDLE = "live"
_NO_DRIVER = "no NVIDIA driver is installed"
_CUDA_PACKAGES = (
    *("cuda-bindings", "cuda-core", "nvidia-cuda-nvrtc"),
    *("nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-cuda-runtime-cu12"),
)
_TENSORRT = (
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-lean", "tensorrt-dispatch"),
    "tensorrt-rtx",
)
_ONNXRUNTIME = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
)
# Distributions that install the import name `onnxruntime`, so that two of them overwrite each other.
_SHARE_A_NAME = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_REINSTALL_ONNXRUNTIME = "pip install --force-reinstall 'onnxruntime>=1.31,<1.32'"
_COMMAND = re.compile(r"`([^`]+)`")


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: found for name in packages if (found := installed(name)) is not None}


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def check_gpu() -> list[Finding]:
    """Look for an NVIDIA GPU, its driver and CUDA."""
    from denoscope.runtime import list_backends

    return [judge_driver(find_driver(), list_backends(), _versions(_CUDA_PACKAGES))]


def judge_driver(
    driver: Driver | None, backends: Mapping[str, str | None], packages: Mapping[str, str]
) -> Finding:
    """Say what a driver, or none, means.

    Parameters
    ----------
    driver
        What was found.
    backends
        Every backend, with the reason why it cannot run here.
    packages
        CUDA packages of Python and their versions.
    """
    beside = f"; CUDA packages: {_listed(packages)}" if packages else "; no CUDA packages in Python"
    if driver is None:
        found = (
            "no NVIDIA driver (neither nvidia-smi nor the driver's library); frames are denoised on the processor. "
            "If this computer has an NVIDIA GPU, install the newest driver from nvidia.com"
        )
        return Finding("GPU", Status.NOTE, found, facts={})
    facts: dict[str, object] = {
        "source": driver.source,
        "driver": driver.version,
        "cuda": driver.cuda,
        "gpus": [gpu.to_dict() for gpu in driver.gpus],
        "packages": dict(packages),
    }
    if driver.problem is not None:
        remedy = "reinstall the NVIDIA driver, restart, and run nvidia-smi"
        return Finding("GPU", Status.IMPROVE, driver.problem, remedy, facts)
    if not driver.gpus:
        return Finding(
            "GPU", Status.NOTE, f"the NVIDIA driver is installed but sees no GPU{beside}", facts=facts
        )
    gpus = ", ".join(
        gpu.name
        + (f" ({gpu.memory_bytes / 2**30:.0f} GiB" if gpu.memory_bytes else " (memory unknown")
        + (f", compute capability {gpu.compute_capability})" if gpu.compute_capability else ")")
        for gpu in driver.gpus
    )
    found = f"{gpus}, driver {driver.version or 'version unknown'}, CUDA up to {driver.cuda or '?'}{beside}"
    on_gpu = {name: why for name, why in backends.items() if "tensorrt" in name or "cuda" in name}
    if not on_gpu:
        found += "; this release has no backend for it, so frames are denoised on the processor"
        return Finding("GPU", Status.NOTE, found, facts=facts)
    ready = [name for name, why in on_gpu.items() if why is None]
    if ready:
        return Finding("GPU", Status.OK, f"{found}; used by {', '.join(ready)}", facts=facts)
    command = next((c for why in on_gpu.values() if (c := _command(why))), None)
    return Finding("GPU", Status.IMPROVE, f"{found}; no backend uses it yet", command, facts)


def check_tensorrt() -> list[Finding]:
    """List the installed distributions of TensorRT; none of them is imported."""
    versions = _versions(_TENSORRT)
    if not versions:
        return [Finding("TensorRT", Status.NOTE, "neither tensorrt nor tensorrt_rtx is installed")]
    return [Finding("TensorRT", Status.OK, _listed(versions), facts=versions)]


def check_onnxruntime() -> list[Finding]:
    """Look at ONNX Runtime, its providers, and whether two builds overwrite each other."""
    versions = _versions(_ONNXRUNTIME)
    if find_spec("onnxruntime") is None:
        return [judge_onnxruntime(versions, None, None)]
    try:
        onnxruntime = onnxruntime_library()
    except ImportError as error:
        return [judge_onnxruntime(versions, None, one_line(error))]
    return [judge_onnxruntime(versions, list(onnxruntime.get_available_providers()), None)]


def judge_onnxruntime(
    versions: Mapping[str, str], providers: list[str] | None, problem: str | None
) -> Finding:
    """Say what the installed builds of ONNX Runtime mean.

    Parameters
    ----------
    versions
        Its distributions and their versions.
    providers
        What the imported library offers; None when it could not be imported.
    problem
        Why not, None when it is missing.
    """
    facts = {"versions": dict(versions), "providers": providers}
    sharing = [name for name in versions if name in _SHARE_A_NAME]
    if len(sharing) > 1:
        found = (
            f"{' and '.join(sharing)} are both installed and overwrite each other's files; keep one of them"
        )
        again = _REINSTALL_ONNXRUNTIME
        if "onnxruntime-gpu" in sharing:  # it runs on processors too; what it needs is there
            again = f'python -m pip install --no-deps "onnxruntime-gpu=={versions["onnxruntime-gpu"]}"'
        # Two commands: Windows PowerShell 5 has no operator to join them.
        remedy = f"python -m pip uninstall -y {' '.join(sharing)}, then {again}"
        return Finding("ONNX Runtime", Status.IMPROVE, found, remedy, facts)
    if providers is None:
        found = f"it cannot be imported ({problem})" if problem else "not installed"
        return Finding("ONNX Runtime", Status.IMPROVE, found, _REINSTALL_ONNXRUNTIME, facts)
    found = f"{_listed(versions) or 'version unknown'}, providers {', '.join(providers)}"
    if "CPUExecutionProvider" not in providers:
        return Finding("ONNX Runtime", Status.IMPROVE, found, _REINSTALL_ONNXRUNTIME, facts)
    return Finding("ONNX Runtime", Status.OK, found, facts=facts)


def check_openvino() -> list[Finding]:
    """Look at OpenVINO and its devices."""
    if find_spec("openvino") is None:
        found = "not installed; it is the faster way to denoise on the processor"
        return [Finding("OpenVINO", Status.IMPROVE, found, 'python -m pip install ".[cpu]"')]
    try:
        openvino = openvino_library()
        core = openvino.Core()
        devices = {d: str(core.get_property(d, "FULL_DEVICE_NAME")) for d in core.available_devices}
        bf16 = "CPU" in devices and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, RuntimeError) as error:
        found = f"it is installed but does not start ({one_line(error)})"
        remedy = 'python -m pip install --force-reinstall ".[cpu]"'
        return [Finding("OpenVINO", Status.IMPROVE, found, remedy)]
    version = installed("openvino") or openvino.__version__
    listed = ", ".join(f"{device} ({name})" for device, name in devices.items()) or "no devices"
    found = f"{version}, {listed}, bfloat16 {'computed' if bf16 else 'not computed'} by the processor"
    return [
        Finding("OpenVINO", Status.OK, found, facts={"version": version, "devices": devices, "bf16": bf16})
    ]


def check_backends() -> list[Finding]:
    """Ask every backend of the table whether it can run here."""
    from denoscope.runtime import list_backends

    bundle = _default_bundle()
    able = {name: obstacle is None for name, obstacle in list_backends().items()}
    findings = []
    for name, obstacle in list_backends(bundle).items():
        if obstacle is None:
            findings.append(Finding(f"backend {name}", Status.OK, "can run here"))
        elif _NO_DRIVER in obstacle:  # the line about the GPU says what to do
            facts = {"obstacle": obstacle}
            found = "only with an NVIDIA GPU and its driver"
            findings.append(Finding(f"backend {name}", Status.NOTE, found, facts=facts))
        else:
            found = (
                f"can run here, but not yet the bundle {_DEFAULT_BUNDLE}: {obstacle}"
                if able[name]
                else obstacle
            )
            findings.append(Finding(f"backend {name}", Status.NOTE, found, _command(obstacle)))
    return findings


def check_auto() -> list[Finding]:
    """Let ``auto`` choose a backend for the default bundle, open it and close it again."""
    from denoscope.runtime import BackendUnavailable, choose_backend

    try:
        backend, choice = choose_backend("auto", bundle=_default_bundle())
    except BackendUnavailable as error:
        remedy = _command(str(error)) or _REINSTALL_ONNXRUNTIME
        return [Finding("auto", Status.BROKEN, one_line(error), remedy)]
    with backend:
        details = dict(backend.describe())
    facts = {"name": choice.name, "reason": choice.reason, "rejected": dict(choice.rejected), **details}
    found = f"would choose {choice.name}, because {choice.reason}"
    if not choice.rejected:
        return [Finding("auto", Status.OK, found, facts=facts)]
    names: dict[str, list[str]] = {}
    for name, why in choice.rejected.items():
        names.setdefault(why, []).append(name)
    found += "; better ones cannot run: " + "; ".join(f"{', '.join(n)}: {why}" for why, n in names.items())
    # Without a command there is nothing to be done in this computer as it is: it has no GPU.
    command = next((c for why in names if (c := _command(why))), None)
    status = Status.OK if command is None else Status.IMPROVE
    return [Finding("auto", status, found, command, facts)]


def check_bundles() -> list[Finding]:
    """Load every bundle that ships, checksums included."""
    from denoscope.runtime import Bundle, DenoscopeError, list_bundles

    names = list_bundles()
    findings = []
    for name in dict.fromkeys((_DEFAULT_BUNDLE, *names)):
        try:
            manifest = Bundle.load(name).manifest
        except DenoscopeError as error:
            status = Status.BROKEN if name == _DEFAULT_BUNDLE else Status.IMPROVE
            remedy = "python -m pip install --force-reinstall ."
            findings.append(Finding(f"bundle {name}", status, one_line(error), remedy))
            continue
        found = (
            f"intact, window of {counted(manifest.window, 'frame')}, look-ahead up to {manifest.look_ahead}"
        )
        findings.append(Finding(f"bundle {name}", Status.OK, found))
    return findings


def _default_bundle() -> Bundle | None:
    from denoscope.runtime import Bundle, DenoscopeError

    with contextlib.suppress(DenoscopeError):  # `check_bundles` says what is wrong with it
        return Bundle.load(_DEFAULT_BUNDLE)
    return None


def _command(text: str | None) -> str | None:
    """Return the command that a sentence gives between backticks."""
    found = _COMMAND.search(text or "")
    return found[1] if found else None
