"""GPUs by the names people know them by, and the compute capability that an engine is built for."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from denoscope.runtime import InvalidInput

__all__ = ["GPUS", "Target", "parse_targets"]

# Compute capability: models, as `parse_targets` shortens their names. Source: NVIDIA's list of CUDA GPUs.
GPUS: dict[tuple[int, int], tuple[str, ...]] = {
    (6, 1): ("gtx1050", "gtx1050ti", "gtx1060", "gtx1070", "gtx1070ti", "gtx1080", "gtx1080ti", "titanxp"),
    (7, 0): ("titanv", "v100"),
    (7, 5): (
        *("gtx1630", "gtx1650", "gtx1650super", "gtx1650ti", "gtx1660", "gtx1660super", "gtx1660ti"),
        *("rtx2060", "rtx2060super", "rtx2070", "rtx2070super", "rtx2080", "rtx2080super", "rtx2080ti"),
        *("titanrtx", "quadrortx3000", "quadrortx4000", "quadrortx5000", "quadrortx6000", "quadrortx8000"),
        *("t4", "t400", "t500", "t600", "t1000", "t1200"),
    ),
    (8, 0): ("a30", "a100", "a800"),
    (8, 6): (
        *("rtx2050", "rtx3050", "rtx3050ti", "rtx3060", "rtx3060ti", "rtx3070", "rtx3070ti"),
        *("rtx3080", "rtx3080ti", "rtx3090", "rtx3090ti", "a2", "a10", "a16", "a40"),
        *("rtxa400", "rtxa500", "rtxa1000", "rtxa2000", "rtxa3000", "rtxa4000", "rtxa4500", "rtxa5000"),
        *("rtxa5500", "rtxa6000"),
    ),
    (8, 9): (
        *("rtx4050", "rtx4060", "rtx4060ti", "rtx4070", "rtx4070super", "rtx4070ti", "rtx4070tisuper"),
        *("rtx4080", "rtx4080super", "rtx4090", "rtx4090d", "l4", "l40", "l40s"),
        *("rtx500ada", "rtx1000ada", "rtx2000ada", "rtx3000ada", "rtx3500ada", "rtx4000ada"),
        *("rtx4000sffada", "rtx4500ada", "rtx5000ada", "rtx5880ada", "rtx6000ada"),
    ),
    (9, 0): ("gh200", "h100", "h200"),
    (10, 0): ("b200", "gb200"),
    (10, 3): ("b300", "gb300"),
    (12, 0): (
        *("rtx5050", "rtx5060", "rtx5060ti", "rtx5070", "rtx5070ti", "rtx5080", "rtx5090", "rtx5090d"),
        *("rtxpro500", "rtxpro1000", "rtxpro2000", "rtxpro3000", "rtxpro4000", "rtxpro4500", "rtxpro5000"),
        "rtxpro6000",
    ),
    (12, 1): ("gb10", "dgxspark"),
}
_BY_NAME = {name: capability for capability, names in GPUS.items() for name in names}
_NOISE = re.compile(
    r"nvidia|geforce|generation|laptop|mobile|max-?q|gpu|blackwell|workstation|edition|server"
)
_NUMBER = re.compile(r"(?:sm_?)?(\d+)\.(\d)|sm_?(\d{1,2})(\d)")


@dataclass(frozen=True, order=True)
class Target:
    """Target of an engine: every GPU of the compute capability ``major.minor``."""

    major: int
    minor: int

    @property
    def name(self) -> str:
        """For example `sm86`."""
        return f"sm{self.major}{self.minor}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def parse_targets(text: str) -> tuple[Target, ...]:
    """Return the targets of a list such as `rtx3060,RTX 4090,sm120,8.6`, each once, in the order given.

    Parameters
    ----------
    text
        Names of GPUs or compute capabilities with commas between them.

    Returns
    -------
    tuple of Target
        Each with its name and compute capability.

    Raises
    ------
    InvalidInput
        If a name is no GPU of the table and no compute capability.

    Examples
    --------
    >>> [target.name for target in parse_targets("RTX 3060, sm89")]
    ['sm86', 'sm89']
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InvalidInput("`targets` is empty: name GPUs or compute capabilities, for example rtx3060,sm89.")
    return tuple(dict.fromkeys(_target(word) for word in words))


def _target(word: str) -> Target:
    lowered = word.lower()
    if match := _NUMBER.fullmatch(lowered):
        major, minor = (int(part) for part in match.groups() if part is not None)
        return Target(major, minor)
    name = re.sub(r"[\s_-]", "", _NOISE.sub("", lowered))
    capability = _BY_NAME.get(name)
    if capability is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.7)
        hint = f"did you mean {' or '.join(near)}, or " if near else ""
        raise InvalidInput(
            f"`targets` {word} is no GPU known here: {hint}give its compute capability, for example sm86 "
            "(nvidia-smi --query-gpu=compute_cap --format=csv shows it)."
        )
    return Target(*capability)
