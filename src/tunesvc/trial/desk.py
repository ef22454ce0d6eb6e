"""One study as a warm worker holds it: what its trials share is made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage

from tunesvc import data, plugins, search, strategies
from tunesvc import study as studies
from tunesvc.backbones import Backbone, InputTransform, check_weights, input_transform
from tunesvc.data import Listing, Split
from tunesvc.leases import Fenced, Given, Lease, Terms
from tunesvc.shelf import Shelf
from tunesvc.space import Space
from tunesvc.space import build as build_space
from tunesvc.spec import GivenRun, GivenSampler, Knobs, TrialConfig, trial_seed
from tunesvc.storage import installation_id
from tunesvc.study import Goal, Study
from tunesvc.tasks import Task
from tunesvc.train import Compiling, Placement, Run, Shared, precision
from tunesvc.train.precision import Net
from tunesvc.trial import retention
from tunesvc.trial.models import Models


def _nothing() -> None:
    pass


def _given(listed: GivenSampler, run: GivenRun) -> Given:
    what = listed.configurations[run.configuration]
    mark = {"configuration": run.configuration, "seed_index": run.seed}
    return Given(what.params, mark | dict(what.mark))


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
    goals: tuple[Goal, ...] = field(init=False)  # the objectives; the first is `metric`
    metric: str = field(init=False)
    terms: Terms = field(init=False)
    history: BaseStorage = field(init=False)  # what samplers read of finished trials
    pruner: BasePruner = field(init=False)
    is_control: Callable[[int], bool] = field(init=False)  # of a trial's number
    memory: search.Memory = field(init=False, default_factory=search.Memory)
    models: Models = field(init=False)
    shared: Shared = field(init=False)
    swept: float = field(init=False, default=-inf)  # when checkpoints were last deleted, monotonic
    is_swept: bool = field(init=False, default=False)  # and no trial was told since
    _moved: dict[int, Split] = field(init=False, default_factory=dict)
    _placed: dict[tuple[str, Placement], Placement] = field(init=False, default_factory=dict)
    _splits: dict[tuple[str, int, str], Split] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        spec, base = self.study.spec, self.study.base
        self.space = build_space(spec)
        self.task = plugins.load("task", spec.task)
        self.goals = studies.objectives(spec)
        self.metric = self.goals[0].name
        self.listing = data.scan(spec.data, target=self.task.target, base=base)
        for backbone in spec.backbones:
            check_weights(backbone, base=base)
        studies.set_fingerprint(self.study, self.listing.fingerprint)
        retention.claim_folder(self.shelf, self.study, installation_id(self.study.store.engine))
        self.terms = self._terms()
        history = self.study.store.history
        self.history = history.also(search.SECONDS) if spec.is_cost_aware else history
        self.pruner = search.pruner(spec)
        self.is_control = search.controls(spec)
        outputs = self.task.num_outputs(self.listing.classes)
        self.models = Models(outputs, base, spec.data.image_size)
        self.shared = Shared(self.listing.fingerprint, self.cache / "features")

    def _terms(self) -> Terms:
        spec = self.study.spec
        return Terms(
            trials=studies.limit(spec),
            limits=studies.limits(spec),
            seconds=spec.leases.seconds,
            stall_seconds=spec.leases.stall_seconds,
            max_attempts=spec.leases.max_attempts,
            given=self._given(),
        )

    def _given(self) -> list[Given]:
        """The defaults come first, then the grid's points; where runs are given, these alone."""
        spec = self.study.spec
        if isinstance(spec.sampler, GivenSampler):
            return [_given(spec.sampler, run) for run in spec.sampler.runs]
        labels = zip(spec.backbone_labels, self.space.defaults(), strict=True)
        given = [Given(params, {"default": label}) for label, params in labels]
        if spec.sampler.kind == "grid":
            points = enumerate(self.space.grid())
            given += [Given(params, {"grid": index}) for index, params in points]
        return given

    def storage(self, lease: Lease) -> Fenced:
        """Return where a leased trial, and no other, is written to."""
        is_rung = search.rungs(self.pruner, self.study.name, lease.number)
        return Fenced(self.history, self.study.store.engine, lease, is_rung)

    def take(self, lease: Lease, storage: Fenced) -> optuna.Trial:
        """Return a leased trial as Optuna has it, with the sampler that its number asks for."""
        # Optuna's object of a study keeps the trials that it read for one trial's samplers.
        sampler = search.sampler(self.study.spec, lease.number, self.memory)
        study = self.study.optuna(storage, sampler=sampler, pruner=self.pruner)
        return optuna.Trial(study, lease.trial_id)

    def records(self) -> optuna.Study:
        """Return the study's trials as they are stored."""
        return self.study.optuna(self.history)

    def config(self, label: str, knobs: Knobs, number: int) -> TrialConfig:
        """Return what the training side needs; seeds derive from the digest and the number."""
        spec = self.study.spec
        return TrialConfig(
            spec.backbone(label), knobs, spec.budget.epochs, trial_seed(spec, number),
            is_cached=spec.augment == "cached", evaluated=search.evaluated(spec),
        )  # fmt: skip

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

    def placed(self, config: TrialConfig, placement: Placement) -> Placement:
        """Return a placement in the precision that the configuration's net is trained in there."""
        known = config.backbone.model_dump_json(), placement
        if known not in self._placed:
            crop, spec = self.transform(config).crop, config.backbone
            net = Net(spec, crop, lambda: self.models.another(spec))
            images = self.study.spec.budget.epochs * len(self.listing.splits["train"])
            self._placed[known] = precision.settled(placement, net, images, self.cache)
        return self._placed[known]

    def training(
        self, config: TrialConfig, first: Split, second: Split, placement: Placement
    ) -> Run:
        """Return model and optimizer for a configuration, at their beginning."""
        placement = self.placed(config, placement)
        first, second = (self._resident(split, placement) for split in (first, second))
        model = self.models.take(config)
        body = model.backbone
        plan = self.plan(body, config)
        freezer = self.shared.freezer(model.cut)
        compiling = Compiling(placement.compiling, self.cache / "compiled", model.steps)
        run = Run(
            body, self.task, first, second, config, placement, plan, freezer, model.is_warm,
            compiling,
        )  # fmt: skip
        model.expect(run.changing)
        return run

    def plan(self, body: Backbone, config: TrialConfig) -> strategies.Plan:
        """Return which parts of a body a configuration trains, from when on."""
        stages = [(stage.name, stage.parameters) for stage in body.stages]
        return strategies.plan(
            stages, body.head.parameters, body.norm_parameters, config.knobs, config.epochs
        )

    def wants(self, name: str) -> bool:
        """Whether a cost is among the objectives, or the constraints."""
        capped = {cap.name for cap in self.study.spec.constraints.caps}
        return name in capped or any(goal.is_cost and goal.name == name for goal in self.goals)

    def clear(self) -> None:
        """Give back what is only kept to be quicker: its memory is wanted."""
        self.models.clear()
        self.shared.clear()
        self._moved.clear()

    def _resident(self, split: Split, placement: Placement) -> Split:
        """Return a split on the device, moved there once, if it has the room."""
        if id(split.images) not in self._moved:
            moved = data.resident(split, placement.device, placement.room())
            self._moved[id(split.images)] = moved
        return self._moved[id(split.images)]

    def folder(self, number: int) -> str:
        """Return where on the shelf a trial's checkpoints lie."""
        return retention.folder(self.study, number)
