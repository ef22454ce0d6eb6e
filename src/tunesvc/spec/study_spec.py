"""The study file as frozen data: what to learn, from what, how, and for how much.

Why: 2026-11: machine settings (which device, how many workers, where Postgres is) are not here.
The file says *what* is searched; its digest, from which every seed derives, must not change when
the study moves to another machine. For the same reason the places of data are left out of the
digest: the data's own fingerprint guards them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from tunesvc.spec.budget import Budget
from tunesvc.spec.constraints import Constraints
from tunesvc.spec.data_spec import BackboneSpec, DataSpec
from tunesvc.spec.knobs import KnobName, Scalar
from tunesvc.spec.model import Model, short
from tunesvc.spec.objectives import Goal, Objective, ObjectiveSpec
from tunesvc.spec.ranges import SearchSpace, without
from tunesvc.spec.search_spec import AshaPruner, PrunerSpec, SamplerSpec, TpeSampler


class LeaseSpec(Model):
    """How long a trial waits for a worker that is gone, and how often it is tried."""

    seconds: float = Field(30, ge=1, description="without a sign of life, then it is taken over")
    stall_seconds: float = Field(300, ge=1, description="without a finished batch, likewise")
    max_attempts: int = Field(
        3, ge=1, description="that end badly, in a row and without a new epoch; then it has failed"
    )


class ConfirmSpec(Model):
    """What of a study is run again when it is done, with new seeds."""

    top: int = Field(5, ge=1, description="so many of its best configurations")
    seeds: int = Field(5, ge=1, description="of each; the clearly worse leave earlier")
    ablation: bool = Field(
        True, description="also each step of the way from the untuned default to the best, once"
    )


def _flag_or_wish(written: Any) -> str:
    return "wish" if isinstance(written, Mapping | ConfirmSpec) else "flag"


def _auto_or_ranges(written: Any) -> str:
    """Choose one branch by the value's form, so that a mistake is reported for that branch only."""
    return "auto" if isinstance(written, str) else "ranges"


class StudySpec(Model):
    """A whole study file."""

    name: str = Field(pattern=r"^[\w.+-]{1,200}$", description="null: the file's stem")
    description: str = ""
    task: str = "image-classification"
    data: Annotated[DataSpec, short("kind", Literal["digits"] | DataSpec)]
    backbones: tuple[Annotated[BackboneSpec, short("name", str | BackboneSpec)], ...] = Field(
        min_length=1
    )
    search_space: Annotated[
        Annotated[Literal["auto"], Tag("auto")] | Annotated[SearchSpace, Tag("ranges")],
        Discriminator(_auto_or_ranges),
    ] = Field("auto", description="auto: a ready space per backbone family and strategy")
    defaults: dict[KnobName, Scalar] = Field(
        {}, description="the untuned configuration, run first for every backbone"
    )
    objective: ObjectiveSpec = Field(
        Objective(),
        description="a metric; or a list, [{metric: accuracy}, {cost: latency_ms}]: the Pareto set "
        "of all, trials being pruned by the first",
    )
    constraints: Constraints = Field(
        Constraints(), description="a trial that breaks one is told so, and not trained"
    )
    budget: Budget = Budget()
    sampler: SamplerSpec = TpeSampler()
    pruner: PrunerSpec = AshaPruner()
    augment: Literal["cached", "live"] = Field(
        "cached",
        description="before frozen layers: cached, one of four fixed views of each image, whose "
        "outputs are computed once per host; live, a new one every time, and nothing is cached",
    )
    evaluate: Literal["epochs", "rungs"] = Field(
        "epochs",
        description="on the validation split after every epoch, or only where the pruner decides "
        "and after the last",
    )
    league: bool = Field(
        True, description="open with a linear probe of every backbone; LP-FT heads start from it"
    )
    ask_ahead: bool = Field(
        True,
        description="a worker draws its next trial while the present one trains, without knowing "
        "how that one ends; as if there were one worker more",
    )
    stack: int = Field(
        16, ge=1, description="head-only trials that are trained as one batch, at most; 1: none"
    )
    keep: str = Field(
        "best-3",
        pattern=r"^(all|best-[1-9][0-9]*)$",
        description="whose models stay: all, or best-K trials; running ones always",
    )
    confirm: Annotated[
        Annotated[bool, Tag("flag")] | Annotated[ConfirmSpec, Tag("wish")],
        Discriminator(_flag_or_wish),
    ] = Field(
        False, description="run the best again with new seeds when the study is done, and tell"
    )
    leases: LeaseSpec = LeaseSpec()
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _distinct_backbones(self) -> StudySpec:
        twice = [label for label, n in Counter(self.backbone_labels).items() if n > 1]
        if twice:
            raise ValueError(f"backbone {twice[0]!r} stands twice; give each its own `label`")
        return self

    @field_validator("sampler")
    @classmethod
    def _sampler_can(cls, sampler: SamplerSpec, known: ValidationInfo) -> SamplerSpec:
        several = known.data.get("objective")
        if isinstance(several, tuple) and sampler.kind == "cmaes":
            raise ValueError(
                f"cmaes searches for one objective, and there are {len(several)}; "
                "take tpe, gp, random, qmc or grid"
            )
        if isinstance(several, tuple) and isinstance(sampler, TpeSampler) and sampler.cost_aware:
            raise ValueError("cost_aware searches for one objective; make epoch_seconds another")
        return sampler

    @property
    def objectives(self) -> tuple[Goal, ...]:
        """What is optimized; trials are pruned by the first, which is a metric."""
        return self.objective if isinstance(self.objective, tuple) else (self.objective,)

    @property
    def backbone_labels(self) -> tuple[str, ...]:
        """What each backbone is called in tables and in Optuna."""
        names = Counter(backbone.name for backbone in self.backbones)
        return tuple(
            backbone.label
            or (
                backbone.name
                if names[backbone.name] == 1
                else f"{backbone.name}:{backbone.weights}"
            )
            for backbone in self.backbones
        )

    @property
    def is_cost_aware(self) -> bool:
        """Whether what trials took so far decides what is drawn."""
        return isinstance(self.sampler, TpeSampler) and self.sampler.cost_aware

    @property
    def confirmation(self) -> ConfirmSpec | None:
        """What is to be run again when the study is done; None: nothing."""
        if isinstance(self.confirm, ConfirmSpec):
            return self.confirm
        return ConfirmSpec() if self.confirm else None

    def backbone(self, label: str) -> BackboneSpec:
        """Return the backbone that has this label."""
        return self.backbones[self.backbone_labels.index(label)]

    def without(self, labels: Collection[str]) -> StudySpec:
        """Return the same study without some backbones; the others keep their labels."""
        if not set(labels).intersection(self.backbone_labels):
            return self
        kept = {
            label: backbone
            for label, backbone in zip(self.backbone_labels, self.backbones, strict=True)
            if label not in labels
        }
        made = self.model_copy(update={"backbones": tuple(kept.values())})
        if made.backbone_labels != tuple(kept):
            named = (each.model_copy(update={"label": label}) for label, each in kept.items())
            made = self.model_copy(update={"backbones": tuple(named)})
        if made.search_space == "auto":
            return made
        gone = self._names() - made._names()
        return made.model_copy(update={"search_space": without(made.search_space, gone)})

    def _names(self) -> set[str]:
        """Return what a condition may call a backbone."""
        return {*self.backbone_labels, *(each.name for each in self.backbones)}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the study is.

        Not of its name, of where its data lies, nor of how much it may take in all: a
        study can be continued with more. Nor of what guards it, which changes no result;
        nor of what is run again when it is done; nor of how many trials are drawn at once, which
        like the number of workers changes what the sampler knows, and nothing else; nor of how
        often a run is looked at; nor of how many trials the pruner is audited with; nor of which
        runs are given, whose list may grow.
        """
        named = {"name", "description", "keep", "confirm", "leases"}
        named |= {"evaluate", "ask_ahead", "stack"}
        what: dict[str, Any] = self.model_dump(mode="json", exclude=named)
        for place in self.data.where:
            what["data"].pop(place, None)
        for amount in ("trials", "hours", "gpu_hours", "epochs_total"):
            what["budget"].pop(amount)
        for free in ("batch_size", "configurations", "runs", "of"):
            what["sampler"].pop(free, None)
        if not self.is_cost_aware:
            what["sampler"].pop("cost_aware", None)
        what["pruner"].pop("control", None)
        if not self.constraints:
            what.pop("constraints")
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
