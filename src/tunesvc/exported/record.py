"""`study.json`: where a model comes from, and everything that is needed to train it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict

from tunesvc.exported.description import FORMAT
from tunesvc.spec import BackboneSpec, Knobs, TrialConfig
from tunesvc.spec.model import Model


class _Told(Model):
    """A part in which numbers may be infinite, or none: JSON has "NaN" and "Infinity" for them."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class TrainingRun(_Told):
    """One run, as a trial's configuration says it, and what it brought.

    Args:
        trial: its number in the study; None: it is no trial of it.
        label: what the backbone is called in the study's tables.
        evaluated: epochs, from 1 on, besides the last; None: all.
        weights_sha256: of the file that the backbone's weights came from; "": a random start.
        has_start: the head began as `start.safetensors` holds it (LP-FT).
        stacked: only a head was trained, in a stack of heads.
        micro_batch: images that passed through the model at once; None: whole batches.
        history: what every epoch brought: `epoch` from 1 on, `train_loss`, the task's metrics.
    """

    trial: int | None = None
    label: str
    backbone: BackboneSpec
    knobs: Knobs
    epochs: int
    seed: int
    is_cached: bool = False
    evaluated: tuple[int, ...] | None = None
    weights_sha256: str = ""
    has_start: bool = False
    stacked: bool = False
    micro_batch: int | None = None
    history: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        trial: int | None,
        label: str,
        config: TrialConfig,
        *,
        weights_sha256: str,
        history: Sequence[Mapping[str, Any]],
        stacked: bool = False,
        micro_batch: int | None = None,
    ) -> TrainingRun:
        """Return the run of a configuration."""
        evaluated = None if config.evaluated is None else tuple(sorted(config.evaluated))
        return cls(
            trial=trial, label=label, backbone=config.backbone, knobs=config.knobs,
            epochs=config.epochs, seed=config.seed, is_cached=config.is_cached,
            evaluated=evaluated, weights_sha256=weights_sha256, stacked=stacked,
            micro_batch=micro_batch, history=tuple(history),
        )  # fmt: skip

    def config(self) -> TrialConfig:
        """Return what the training side needs to know."""
        evaluated = None if self.evaluated is None else frozenset(self.evaluated)
        return TrialConfig(
            self.backbone, self.knobs, self.epochs, self.seed, self.is_cached, evaluated
        )


class Noise(_Told):
    """How far two runs of one configuration lie apart because of their seeds.

    Args:
        metric: the objective, in whose unit the rest is.
        deviation: standard deviation of one run on the validation split.
        test_deviation: on the test split.
        runs: from which it was found.
        source: in words.
    """

    metric: str
    deviation: float
    test_deviation: float | None = None
    runs: int
    source: str = ""


class Record(_Told):
    """The story of a model.

    Args:
        study: its name.
        digest: of the study.
        spec: the study file as it is stored.
        base: folder that the study file's relative paths start from; in the file relative to the
            exported folder.
        base_then: the same folder, absolute, as it was when the model was written.
        made: one trial's model; trained again, on more images; or the mean of several trials'.
        trained_on: splits.
        metric: the objective.
        runs: one; the ingredients of a soup.
        fingerprint: of the data.
        images: number of images in each split.
        validation: metrics of the model on the validation split; {} where it was trained on it.
        test: on the test split; {} where there is none.
        noise: None while it is not known.
        selection: how it was chosen, for people.
        hardware: that it was trained on.
        provenance: versions, platform, commit.
    """

    format: int = FORMAT
    study: str
    digest: str
    spec: Mapping[str, Any]
    base: str = "."
    base_then: str = ""
    made: Literal["trial", "refit", "soup"] = "trial"
    trained_on: tuple[str, ...] = ("train",)
    metric: str
    direction: Literal["maximize", "minimize"]
    runs: tuple[TrainingRun, ...]
    fingerprint: str
    images: Mapping[str, int] = {}
    validation: Mapping[str, float] = {}
    test: Mapping[str, float] = {}
    noise: Noise | None = None
    selection: Mapping[str, Any] = {}
    hardware: Mapping[str, Any] = {}
    provenance: Mapping[str, Any] = {}
