"""What a sampler that minds costs is shown of a real study's trials."""

from __future__ import annotations

from pathlib import Path

import pytest
from trials import run_next

from tunesvc import study
from tunesvc.search import SECONDS
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.trial import Desk


def spec(name: str, *, cost_aware: bool) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": name,
            "data": {"kind": "digits", "subset": 100},
            "backbones": [{"name": "tiny_resnet", "weights": "none"}],
            "search_space": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}},
            "budget": {"trials": 4, "epochs": 1},
            "sampler": {"kind": "tpe", "n_startup_trials": 2, "cost_aware": cost_aware},
            "pruner": "none",
            "league": False,
        }
    )


@pytest.mark.parametrize("cost_aware", [True, False])
def test_the_sampler_sees_what_trials_took(store: Store, tmp_path: Path, cost_aware: bool) -> None:
    """The seconds of every finished trial, and no other attribute; of plain studies none at all."""
    made = study.create(store, spec("s", cost_aware=cost_aware), base=tmp_path)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    while run_next(desk) is not None:
        pass
    told = store.optuna.get_all_trials(made.id)
    shown = desk.history.get_all_trials(made.id)
    wanted = [{SECONDS: t.user_attrs[SECONDS]} if cost_aware else {} for t in told]
    assert [trial.user_attrs for trial in shown] == wanted
    assert len(shown) == 4
    seen = desk.memory.look(desk.history.get_all_trials(made.id), is_larger_better=True)
    assert list(seen.measured) == ([0, 1, 2, 3] if cost_aware else [])
    whole = [sum(trial.user_attrs[SECONDS].values()) for trial in told]
    assert not cost_aware or list(seen.seconds) == pytest.approx(whole)


def test_a_view_with_attributes_is_the_same_view(store: Store, tmp_path: Path) -> None:
    """What is asked for beside the history is there when it is read anew; the rest is unchanged."""
    made = study.create(store, spec("s", cost_aware=True), base=tmp_path)
    run_next(Desk(made, tmp_path / "cache", Folder(tmp_path / "kept")))
    view = store.history.also(SECONDS, "history").fresh()
    (shown,) = view.get_all_trials(made.id)
    (plain,) = store.history.get_all_trials(made.id)
    assert set(shown.user_attrs) == {SECONDS, "history"}
    assert plain.user_attrs == {}
    assert shown.params == plain.params
    assert view.get_trial(plain._trial_id).user_attrs.keys() > {SECONDS, "history"}
