"""One study as a warm worker holds it: what its trials share is made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.pruners import BasePruner

from tunesvc import data, plugins, search, strategies, train
from tunesvc import study as studies
from tunesvc.backbones import InputTransform, build, check_weights, input_transform
from tunesvc.data import Listing, Split
from tunesvc.leases import Fenced, Given, Lease, Terms
from tunesvc.shelf import Shelf
from tunesvc.space import Space
from tunesvc.space import build as build_space
from tunesvc.spec import Knobs, TrialConfig, derive_seed
from tunesvc.storage import installation_id
from tunesvc.study import Study
from tunesvc.tasks import Task
from tunesvc.train import Placement, Run
from tunesvc.trial import retention


def _nothing() -> None:
    pass


@dataclass
class Desk:
    """A study, its data and its search, ready for trials.

    Raises:
        DataError, WeightsError, StorageError: this machine cannot run it; no trial was touched.
    """

    study: Study
    cache: Path
    shelf: Shelf
    space: Space = field(init=False)
    task: Task = field(init=False)
    listing: Listing = field(init=False)
    metric: str = field(init=False)
    terms: Terms = field(init=False)
    storage: Fenced = field(init=False)
    pruner: BasePruner = field(init=False)
    trials: optuna.Study = field(init=False)
    _generation: int = field(init=False, default=0)
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
        retention.claim_folder(self.shelf, self.study, installation_id(self.study.store.engine))
        self.terms = self._terms()
        self.storage = Fenced(self.study.store.optuna, self.study.store.engine)
        self.pruner = search.pruner(spec)
        self.trials = self.study.optuna(self.storage, pruner=self.pruner)

    def _terms(self) -> Terms:
        """The defaults come first, then the grid's points where there is a grid."""
        spec = self.study.spec
        labels = zip(spec.backbone_labels, self.space.defaults(), strict=True)
        given = [Given(params, {"default": label}) for label, params in labels]
        if spec.sampler.kind == "grid":
            points = enumerate(self.space.grid())
            given += [Given(params, {"grid": index}) for index, params in points]
        return Terms(
            trials=studies.limit(spec),
            hours=spec.budget.hours,
            seconds=spec.leases.seconds,
            stall_seconds=spec.leases.stall_seconds,
            max_attempts=spec.leases.max_attempts,
            given=given,
        )

    def take(self, lease: Lease) -> optuna.Trial:
        """Return a leased trial as Optuna has it, with the sampler that its number asks for."""
        if lease.generation != self._generation:  # finished trials were put back: read them anew
            self.storage.inner = self.study.store.fresh()
            self._generation = lease.generation
        self.storage.work_on(lease)
        # Optuna's object of a study keeps the trials that it read for one trial's samplers.
        sampler = search.sampler(self.study.spec, lease.number)
        self.trials = self.study.optuna(self.storage, sampler=sampler, pruner=self.pruner)
        return optuna.Trial(self.trials, lease.trial_id)

    def records(self) -> optuna.Study:
        """Return the study's trials as they are stored."""
        return self.study.optuna(self.storage.inner)

    def config(self, label: str, knobs: Knobs, number: int) -> TrialConfig:
        """Return what the training side needs; seeds derive from the digest and the number."""
        spec = self.study.spec
        seed = derive_seed(spec.digest, "trial", number)
        return TrialConfig(spec.backbone(label), knobs, spec.budget.epochs, seed)

    def splits(
        self, config: TrialConfig, *names: str, tick: Callable[[], None] = _nothing
    ) -> list[Split]:
        """Return splits decoded for the configuration's backbone; `tick` is called meanwhile."""
        transform = self.transform(config)
        return [self._split(name, transform, tick) for name in names]

    def transform(self, config: TrialConfig) -> InputTransform:
        """Return what happens to an image before the configuration's backbone sees it."""
        size = self.study.spec.data.image_size
        return input_transform(config.backbone, base=self.study.base, image_size=size)

    def _split(self, name: str, transform: InputTransform, tick: Callable[[], None]) -> Split:
        key = (name, transform.resize, transform.interpolation)
        if key not in self._splits:
            self._splits[key] = data.decode(
                self.listing,
                name,
                transform.resize,
                on_corrupt=self.study.spec.data.on_corrupt,
                cache=self.cache,
                interpolation=transform.interpolation,
                tick=tick,
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

    def folder(self, number: int) -> str:
        """Return where on the shelf a trial's checkpoints lie."""
        return retention.folder(self.study, number)
