"""A finished trial's model on images that the search has never seen."""

from __future__ import annotations

from tunesvc import checkpoint, train
from tunesvc import study as studies
from tunesvc.errors import StudyError
from tunesvc.train import Placement
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
    state = checkpoint.load(desk.shelf, desk.folder(number))
    if state is None:
        raise StudyError(
            f"the model of trial {number} of {desk.study.name!r} is not here",
            f"{desk.shelf.location} holds no whole checkpoint of it ({desk.folder(number)})",
            "only the best trials' models are kept, on the machine (or share) that trained them",
        )
    trials = desk.records().get_trials(deepcopy=False)
    params = next(t.params for t in trials if t.number == number)
    config = desk.config(*desk.space.resolve(params), number)
    first, second, test = desk.splits(config, "train", "val", "test")
    training = desk.training(config, first, second, placement)
    training.load_state_dict(state["run"])
    metrics = train.evaluate(training, test)
    studies.set_test_metrics(desk.study, number, metrics)
    return metrics
