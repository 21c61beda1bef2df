"""Published flow estimators to compare with, one interface: (a, b, blur in pixels) -> flow.

Frames come variance-stabilised, so that each method sees noise of one size. Each may blur them first;
the comparison takes the blur that suits it best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from denoscope.runtime import InvalidInput

__all__ = ["REFERENCES", "Reference"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A published estimator.

    Attributes
    ----------
    name
        As tables call it.
    estimate
        Function of (a, b) frames (H, W) that returns the flow (2, H, W), rows then columns, with
        a(p + flow(p)) = b(p).
    source
        Who published it.
    blurs
        Whether it is worth blurring the frames first.
    """

    name: str
    estimate: Callable[[FloatArray, FloatArray], FloatArray]
    source: str
    blurs: bool = True

    def __call__(self, a: FloatArray, b: FloatArray, blur: float = 0.0) -> FloatArray:
        """Estimate the flow after a Gaussian blur of the given standard deviation, in pixels."""
        if blur:
            a, b = ndimage.gaussian_filter(a, blur), ndimage.gaussian_filter(b, blur)
        return np.nan_to_num(np.asarray(self.estimate(a, b), np.float32), posinf=0.0, neginf=0.0)


def _no_motion(a: FloatArray, _b: FloatArray) -> FloatArray:
    return np.zeros((2, *a.shape), np.float32)


def _phase_correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    from skimage.registration import phase_cross_correlation

    shift, _, _ = phase_cross_correlation(a, b, upsample_factor=10, normalization=None)
    return np.broadcast_to(np.asarray(shift, np.float32)[:, None, None], (2, *a.shape))


def _tv_l1(a: FloatArray, b: FloatArray) -> FloatArray:
    from skimage.registration import optical_flow_tvl1

    return np.asarray(optical_flow_tvl1(*_unit_range(b, a)), np.float32)


def _ilk(a: FloatArray, b: FloatArray) -> FloatArray:
    from skimage.registration import optical_flow_ilk

    return np.asarray(optical_flow_ilk(*_unit_range(b, a), radius=9, num_warp=5), np.float32)


def _dis(a: FloatArray, b: FloatArray) -> FloatArray:
    try:
        import cv2  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise InvalidInput("OpenCV is not installed: pip install opencv-python-headless.") from error
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    images = [np.rint(255 * image).astype(np.uint8) for image in _unit_range(b, a)]
    flow = estimator.calc(images[0], images[1], np.zeros((*a.shape, 2), np.float32))
    return np.asarray(flow[..., ::-1].transpose(2, 0, 1), np.float32)


def _unit_range(b: FloatArray, a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bring both frames to the range 0 to 1 in common, which the methods' constants expect."""
    low, high = np.percentile(np.stack([a, b]), (0.1, 99.9))
    span = max(float(high - low), 1e-6)
    first, second = (np.clip((image - low) / span, 0, 1).astype(np.float32) for image in (b, a))
    return first, second


REFERENCES = (
    Reference("no motion", _no_motion, "the answer zero", blurs=False),
    Reference("phase correlation", _phase_correlation, "scikit-image, Guizar-Sicairos et al. 2008"),
    Reference("TV-L1", _tv_l1, "scikit-image, Zach, Pock & Bischof 2007"),
    Reference("ILK", _ilk, "scikit-image, Le Besnerais & Champagnat 2005"),
    Reference("DIS", _dis, "OpenCV, Kroeger et al. 2016, medium preset"),
)
