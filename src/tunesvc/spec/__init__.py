"""The study file: parsing, checking, schema, digest."""

from tunesvc.spec.config import TrialConfig, derive_seed, trial_seed
from tunesvc.spec.constraints import Constraints
from tunesvc.spec.data_spec import (
    ArraysData,
    BackboneSpec,
    CsvData,
    DataSpec,
    DigitsData,
    FolderData,
    SplitSpec,
    TorchvisionData,
)
from tunesvc.spec.knobs import KNOBS, STRATEGIES, Knobs, Scalar
from tunesvc.spec.load import apply_settings, load, parse, schema
from tunesvc.spec.ranges import Choices, Fixed, FloatRange, IntRange, Range
from tunesvc.spec.search_spec import (
    GivenConfiguration,
    GivenRun,
    GivenSampler,
    PrunerSpec,
    SamplerSpec,
)
from tunesvc.spec.study_spec import ConfirmSpec, StudySpec

__all__ = [
    "KNOBS",
    "STRATEGIES",
    "ArraysData",
    "BackboneSpec",
    "Choices",
    "ConfirmSpec",
    "Constraints",
    "CsvData",
    "DataSpec",
    "DigitsData",
    "Fixed",
    "FloatRange",
    "FolderData",
    "GivenConfiguration",
    "GivenRun",
    "GivenSampler",
    "IntRange",
    "Knobs",
    "PrunerSpec",
    "Range",
    "SamplerSpec",
    "Scalar",
    "SplitSpec",
    "StudySpec",
    "TorchvisionData",
    "TrialConfig",
    "apply_settings",
    "derive_seed",
    "load",
    "parse",
    "schema",
    "trial_seed",
]
