"""One study as a warm worker holds it: what its trials share is made once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from tunesvc import data, plugins, search, strategies, train
from tunesvc import study as studies
from tunesvc.backbones import InputTransform, build, check_weights, input_transform
from tunesvc.data import Listing, Split
from tunesvc.space import Space
from tunesvc.space import build as build_space
from tunesvc.spec import Knobs, TrialConfig, derive_seed
from tunesvc.study import Study
from tunesvc.tasks import Task
from tunesvc.train import Placement, Run
from tunesvc.trial import retention


@dataclass
class Desk:
    """A study, its data and its search, ready for trials.

    Raises:
        DataError, WeightsError: this machine cannot run the study; no trial was touched.
    """

    study: Study
    cache: Path
    artifacts: Path
    space: Space = field(init=False)
    task: Task = field(init=False)
    listing: Listing = field(init=False)
    metric: str = field(init=False)
    trials: optuna.Study = field(init=False)
    asked: optuna.Trial | None = field(init=False, default=None)  # the trial begun last
    _splits: dict[tuple[str, int, str], Split] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        spec, base = self.study.spec, self.study.base
        self.space = build_space(spec)
        self.task = plugins.load("task", spec.task)
        self.metric, _ = studies.objective(spec)
        self.listing = data.scan(spec.data, target=self.task.target, base=base)
        for backbone in spec.backbones:
            check_weights(backbone, base=base)
        studies.set_fingerprint(self.study, self.listing.fingerprint)
        self.trials = self.study.optuna(pruner=search.pruner(spec))

    def begin(self, number: int) -> int:
        """Create the trial that is to have this number; return its id. Called by `Leases.claim`.

        The defaults come first, then the grid's points where there is a grid, then the sampler.
        """
        self.trials.sampler = search.sampler(self.study.spec, number)
        given = self._next_given()
        if given is not None:
            params, mark = given
            self.trials.enqueue_trial(params, user_attrs=mark)
        self.asked = self.trials.ask()
        return int(self.asked._trial_id)

    def _next_given(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the first configuration that must run and is not among the trials, and its mark.

        Trials that a person enqueued, or that a dying worker left WAITING, displace none.
        """
        trials = self.trials.get_trials(deepcopy=False)
        first = zip(self.study.spec.backbone_labels, self.space.defaults(), strict=True)
        grid = self._grid if self.study.spec.sampler.kind == "grid" else []
        for mark, points in (("default", first), ("grid", enumerate(grid))):
            known = {trial.user_attrs.get(mark) for trial in trials}
            for key, params in points:
                if key not in known:
                    return params, {mark: key}
        return None

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        return self.space.grid()

    def config(self, label: str, knobs: Knobs, number: int) -> TrialConfig:
        """Return what the training side needs; seeds derive from the digest and the number."""
        spec = self.study.spec
        seed = derive_seed(spec.digest, "trial", number)
        return TrialConfig(spec.backbone(label), knobs, spec.budget.epochs, seed)

    def splits(self, config: TrialConfig, *names: str) -> list[Split]:
        """Return splits decoded for the configuration's backbone."""
        transform = input_transform(
            config.backbone, base=self.study.base, image_size=self.study.spec.data.image_size
        )
        return [self._split(name, transform) for name in names]

    def _split(self, name: str, transform: InputTransform) -> Split:
        key = (name, transform.resize, transform.interpolation)
        if key not in self._splits:
            self._splits[key] = data.decode(
                self.listing,
                name,
                transform.resize,
                on_corrupt=self.study.spec.data.on_corrupt,
                cache=self.cache,
                interpolation=transform.interpolation,
            )
        return self._splits[key]

    def training(
        self, config: TrialConfig, first: Split, second: Split, placement: Placement
    ) -> Run:
        """Build model and optimizer for a configuration, from their beginning."""
        train.seed(config.seed)  # the new head, and a body from scratch, are drawn from it
        body = build(
            config.backbone,
            self.task.num_outputs(self.listing.classes),
            base=self.study.base,
            dropout=config.knobs.dropout,
            pretrained=config.knobs.strategy != "from-scratch",
            image_size=self.study.spec.data.image_size,
        )
        stages = [(stage.name, stage.parameters) for stage in body.stages]
        plan = strategies.plan(
            stages, body.head.parameters, body.norm_parameters, config.knobs, config.epochs
        )
        return Run(body, self.task, first, second, config, placement, plan)

    def checkpoint(self, number: int) -> Path:
        """Return where the state of a trial is kept."""
        return retention.folder(self.artifacts, self.study, number) / "last.pt"
