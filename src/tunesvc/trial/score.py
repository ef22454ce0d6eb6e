"""A finished trial's model on images that the search has never seen.

Why: 2026-11: where every trial is to be scored, that happens before it is told, by the worker that
has the model: a trial that is complete has its score, whoever died and wherever checkpoints lie.
"""

from __future__ import annotations

from typing import Any

from tunesvc import checkpoint, interrupt, train
from tunesvc import study as studies
from tunesvc.errors import StorageError, StudyError
from tunesvc.spec import GivenSampler, Knobs
from tunesvc.train import Placement, Run
from tunesvc.trial.attempt import Attempt
from tunesvc.trial.desk import Desk


def score(desk: Desk, number: int, placement: Placement) -> dict[str, float] | None:
    """Evaluate a trial on the test split, once: the study keeps the result and returns it after.

    Returns:
        Every metric of the task, or None where the data has no test split.

    Raises:
        StudyError: the trial's model is no longer kept.
    """
    if "test" not in desk.listing.splits:
        return None
    known = studies.test_metrics(desk.study, number)
    if known is not None:
        return known
    trials = desk.records().get_trials(deepcopy=False)
    params = next(t.params for t in trials if t.number == number)
    training = kept_run(desk, number, *desk.space.resolve(params), placement)
    if training is None:
        raise StudyError(
            f"the model of trial {number} of {desk.study.name!r} is not here",
            f"{desk.shelf.location} holds no whole checkpoint of it ({desk.folder(number)})",
            "only the best trials' models are kept, on the machine (or share) that trained them",
        )
    (split,) = desk.splits(training.config, "test")
    metrics = train.evaluate(training, split)
    studies.set_test_metrics(desk.study, number, metrics)
    return metrics


def wants_score(desk: Desk) -> bool:
    """Whether every trial of the study is to be scored on the test split as it ends."""
    sampler = desk.study.spec.sampler
    return isinstance(sampler, GivenSampler) and sampler.score


def final_score(attempt: Attempt) -> dict[str, Any]:
    """Return what a trial that is about to be told complete scores on the test split.

    Returns:
        `images`: number of images in each split; `test`: every metric of the task, where the data
        has a test split.

    Raises:
        StorageError: its model is not here.
    """
    desk, number = attempt.desk, attempt.lease.number
    told: dict[str, Any] = {"images": {name: len(x) for name, x in desk.listing.splits.items()}}
    if "test" not in told["images"]:
        return told
    with attempt.watched(is_training=False):
        training = attempt.training or kept_run(desk, number, *attempt.draw(), attempt.placement)
        if training is None:
            raise StorageError(
                f"the model of trial {number} of {desk.study.name!r} is not here",
                f"{desk.shelf.location} holds no whole checkpoint of it ({desk.folder(number)})",
                "workers on several hosts need one place for checkpoints (TUNESVC_ARTIFACTS)",
            )
        (split,) = desk.splits(training.config, "test", tick=interrupt.check)
        metrics = train.evaluate(training, split, interrupt.check)
    return told | {"test": studies.storable(metrics)}


def kept_run(desk: Desk, number: int, label: str, knobs: Knobs, placement: Placement) -> Run | None:
    """Return a trial's run as its newest checkpoint has it; None where there is none."""
    state = checkpoint.load(desk.shelf, desk.folder(number))
    if state is None:
        return None
    config = desk.config(label, knobs, number)
    first, second = desk.splits(config, "train", "val")
    training = desk.training(config, first, second, placement)
    training.load_state_dict(state["run"])
    return training
