"""One leased trial as its holder knows it, with what waits to be stored."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tunesvc.leases import words
from tunesvc.leases.claims import Lease
from tunesvc.leases.words import Word


@dataclass(frozen=True)
class Draft:
    """A write as it goes out.

    Args:
        said: the arguments of `sql.write`.
        drawn, noted: what waited for it.
        known: rung → trial number → value, of what need not be asked.
    """

    word: Word
    said: dict[str, Any]
    drawn: Mapping[str, tuple[float, BaseDistribution]]
    noted: Mapping[str, Any]
    known: Mapping[int, Mapping[int, float]] = field(default_factory=dict)


class Own:
    """The trial, once it was read, or from the start where the lease's claim created it."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._known = _created(lease)
        self._drawn: dict[str, tuple[float, BaseDistribution]] = {}
        self._noted: dict[str, Any] = {}  # system attributes

    def draw(self, name: str, value: float, distribution: BaseDistribution) -> None:
        """Have a parameter wait; what was drawn before stands."""
        self._drawn.setdefault(name, (value, distribution))
        self._show_waiting()

    def note(self, key: str, value: Any) -> None:
        """Have a system attribute wait."""
        self._noted[key] = json.loads(json.dumps(value))
        self._show_waiting()

    def draft(self, word: Word) -> Draft:
        """Return a word with all that waits."""
        drawn, noted = dict(self._drawn), dict(self._noted)
        said = word.arguments() | words.params(drawn) | words.attributes("system", noted)
        said |= {"trial_id": self._lease.trial_id, "token": self._lease.token}
        return Draft(word, said, drawn, noted)

    def heed(self, draft: Draft, stored_at: datetime) -> None:
        """A draft was stored: it waits no more, and is known."""
        for name in draft.drawn:
            del self._drawn[name]
        for key, value in draft.noted.items():
            if self._noted[key] is value:
                del self._noted[key]
        self._remember(draft.word, stored_at)

    def _remember(self, word: Word, stored_at: datetime) -> None:
        if (known := self._known) is None:
            return
        known.intermediate_values.update(word.steps)
        known.user_attrs.update(json.loads(json.dumps(dict(word.attributes))))
        if word.state is not None:
            known.state, known.datetime_complete = word.state, stored_at
            known.values = list(word.values) or None

    def trial(self, read: Callable[[int], FrozenTrial]) -> FrozenTrial:
        """Return the trial with what waits; `read` it if it is not known."""
        if self._known is None:
            self._known = _copy(read(self._lease.trial_id))
            self._show_waiting()
        return _copy(self._known)

    def _show_waiting(self) -> None:
        trial = self._known
        if trial is None:
            return
        for name, (value, distribution) in list(self._drawn.items()):
            if name not in trial.params:
                trial.distributions[name] = distribution
                trial.params[name] = distribution.to_external_repr(value)
        trial.system_attrs.update(self._noted)


def _created(lease: Lease) -> FrozenTrial | None:
    """Return the trial that the claim created; None: it has to be read."""
    if lease.started_at is None:
        return None
    given = lease.given
    return FrozenTrial(
        number=lease.number,
        trial_id=lease.trial_id,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=lease.started_at,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={} if given is None else dict(given.mark),
        system_attrs={} if given is None else {"fixed_params": dict(given.params)},
        intermediate_values={},
    )


def _copy(trial: FrozenTrial) -> FrozenTrial:
    made = copy.copy(trial)
    for name in ("_params", "_distributions", "_user_attrs", "_system_attrs"):
        setattr(made, name, dict(getattr(trial, name)))
    made.intermediate_values = dict(trial.intermediate_values)
    return made
