"""Train networks on noisy movies, simulate movies, measure quality (needs the extra `train`).

To adapt a bundle to a movie, `denoscope.acquisition.train_bundle` is all you need. This package holds the parts.

Train:

- `fit` trains a network on movies by one of `METHODS` with `FitSettings`; it tells a `FitPlan` before it begins and
  `FitProgress` on the way, and returns a `FitResult`. `ADAPTATION_RATE` is the learning rate that starts from a bundle.
- `TrainingMovie` is what it learns from: `movie_from_file` opens one, `simulated_movies` makes some, `aligned` moves
  one to its rest position.
- `blind_spots_for` and `hiding_noise` hide noise that neighbouring pixels share from the network (`BLIND_SPOTS`).
- `self_supervised_score` measures a network on a noisy movie, without truth.

Networks:

- `LiveNet` with `LiveNetSettings` (`SIZES`) is behind the bundles `live-fast`, `live` and `live-hq`; `Prediction` is
  what it says of a frame. `denoise_reference` denoises a movie with it in PyTorch.
- `Umvd` (`UmvdSettings`, `fit_umvd`, `UmvdFitSettings`, `UmvdFit`, `denoise_umvd`, `running_baseline`,
  `temporal_weights`) and `StsUvd` (`StsUvdSettings`, `fit_sts_uvd`, `StsUvdFitSettings`, `StsUvdFit`,
  `denoise_sts_uvd`, `Flows`, `estimate_flows`) are published methods.
- `FlowNet` finds the motion between two frames: `estimate_flow`, `flow_estimator`, `load_flow` and `Motion` use it,
  `fit_flow` trains it (`FlowFitSettings`, `FlowFit`), `refine_flow` adapts it (`RefineSettings`, `FlowRefinement`).

Simulate:

- `simulate` makes a `SimulatedMovie` of `SceneSettings` and `CameraSettings`; `random_settings` draws both, of any of
  `ALL_KINDS`. `test_movie` and `test_movies` are the ones that results are quoted on (`TEST_MOVIES`).

Measure:

- `score` compares a movie with the truth (`Score`); `best_gaussian` and `best_temporal_average` are the filters to
  beat.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoscope.runtime.late import late_names

if TYPE_CHECKING:
    from denoscope.train.data.movie import TrainingMovie, aligned, movie_from_file, simulated_movies
    from denoscope.train.evaluation.metrics import Score, best_gaussian, best_temporal_average, score
    from denoscope.train.evaluation.reference import denoise_reference
    from denoscope.train.fit_settings import ADAPTATION_RATE, FitPlan, FitProgress, FitResult, FitSettings
    from denoscope.train.fitting.fit import UmvdFit, fit, fit_sts_uvd, fit_umvd, self_supervised_score
    from denoscope.train.fitting.methods import METHODS
    from denoscope.train.flow.fit import FlowFit, FlowFitSettings, fit_flow
    from denoscope.train.flow.net import FlowNet, Motion, estimate_flow, flow_estimator, load_flow
    from denoscope.train.flow.refine import FlowRefinement, RefineSettings, refine_flow
    from denoscope.train.networks.live.blind_spot import blind_spots_for, hiding_noise
    from denoscope.train.networks.live.net import LiveNet, Prediction
    from denoscope.train.networks.live.settings import BLIND_SPOTS, SIZES, LiveNetSettings
    from denoscope.train.networks.published.sts_uvd import (
        Flows,
        StsUvd,
        StsUvdSettings,
        denoise_sts_uvd,
        estimate_flows,
    )
    from denoscope.train.networks.published.sts_uvd_task import StsUvdFit, StsUvdFitSettings
    from denoscope.train.networks.published.umvd import (
        Umvd,
        UmvdFitSettings,
        UmvdSettings,
        denoise_umvd,
        running_baseline,
        temporal_weights,
    )
    from denoscope.train.simulator.simulate import (
        ALL_KINDS,
        TEST_MOVIES,
        CameraSettings,
        SceneSettings,
        SimulatedMovie,
        random_settings,
        simulate,
        test_movie,
        test_movies,
    )

# A literal, for type checkers and star imports; a test holds it equal to the table below.
__all__ = [
    "ADAPTATION_RATE",
    "ALL_KINDS",
    "BLIND_SPOTS",
    "METHODS",
    "SIZES",
    "TEST_MOVIES",
    "CameraSettings",
    "FitPlan",
    "FitProgress",
    "FitResult",
    "FitSettings",
    "FlowFit",
    "FlowFitSettings",
    "FlowNet",
    "FlowRefinement",
    "Flows",
    "LiveNet",
    "LiveNetSettings",
    "Motion",
    "Prediction",
    "RefineSettings",
    "SceneSettings",
    "Score",
    "SimulatedMovie",
    "StsUvd",
    "StsUvdFit",
    "StsUvdFitSettings",
    "StsUvdSettings",
    "TrainingMovie",
    "Umvd",
    "UmvdFit",
    "UmvdFitSettings",
    "UmvdSettings",
    "aligned",
    "best_gaussian",
    "best_temporal_average",
    "blind_spots_for",
    "denoise_reference",
    "denoise_sts_uvd",
    "denoise_umvd",
    "estimate_flow",
    "estimate_flows",
    "fit",
    "fit_flow",
    "fit_sts_uvd",
    "fit_umvd",
    "flow_estimator",
    "hiding_noise",
    "load_flow",
    "movie_from_file",
    "random_settings",
    "refine_flow",
    "running_baseline",
    "score",
    "self_supervised_score",
    "simulate",
    "simulated_movies",
    "temporal_weights",
    "test_movie",
    "test_movies",
]

_MODULES = {
    "data.movie": (
        "TrainingMovie",
        "aligned",
        "movie_from_file",
        "simulated_movies",
    ),
    "evaluation.metrics": (
        "Score",
        "best_gaussian",
        "best_temporal_average",
        "score",
    ),
    "evaluation.reference": ("denoise_reference",),
    "fit_settings": (
        "ADAPTATION_RATE",
        "FitPlan",
        "FitProgress",
        "FitResult",
        "FitSettings",
    ),
    "fitting.fit": (
        "UmvdFit",
        "fit",
        "fit_sts_uvd",
        "fit_umvd",
        "self_supervised_score",
    ),
    "fitting.methods": ("METHODS",),
    "flow.fit": (
        "FlowFit",
        "FlowFitSettings",
        "fit_flow",
    ),
    "flow.net": (
        "FlowNet",
        "Motion",
        "estimate_flow",
        "flow_estimator",
        "load_flow",
    ),
    "flow.refine": (
        "FlowRefinement",
        "RefineSettings",
        "refine_flow",
    ),
    "networks.live.blind_spot": (
        "blind_spots_for",
        "hiding_noise",
    ),
    "networks.live.net": (
        "LiveNet",
        "Prediction",
    ),
    "networks.live.settings": (
        "BLIND_SPOTS",
        "SIZES",
        "LiveNetSettings",
    ),
    "networks.published.sts_uvd": (
        "Flows",
        "StsUvd",
        "StsUvdSettings",
        "denoise_sts_uvd",
        "estimate_flows",
    ),
    "networks.published.sts_uvd_task": (
        "StsUvdFit",
        "StsUvdFitSettings",
    ),
    "networks.published.umvd": (
        "Umvd",
        "UmvdFitSettings",
        "UmvdSettings",
        "denoise_umvd",
        "running_baseline",
        "temporal_weights",
    ),
    "simulator.simulate": (
        "ALL_KINDS",
        "TEST_MOVIES",
        "CameraSettings",
        "SceneSettings",
        "SimulatedMovie",
        "random_settings",
        "simulate",
        "test_movie",
        "test_movies",
    ),
}
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
