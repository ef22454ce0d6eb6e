"""The search space of one study: Optuna's parameters in, a whole configuration out.

A knob that is not searched, or not active in a trial, has its untuned value: the study file's
`defaults`, else the recipe of the backbone's family for the trial's strategy, else the knob's own.
So the default configuration and every other trial differ in searched knobs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial

from tunesvc.errors import SpecError
from tunesvc.space import auto
from tunesvc.space.conditions import holds
from tunesvc.space.parameters import Constant, Parameter
from tunesvc.spec import Knobs, Scalar, StudySpec, knobs

Option = Parameter | Constant
Values = dict[str, Scalar]


@dataclass(frozen=True)
class Space:
    """What a study searches; built once and never changed."""

    spec: StudySpec
    knobs: tuple[tuple[str, tuple[Option, ...]], ...]  # parents first; of a knob's, the first holds
    file_defaults: Mapping[str, Scalar]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, the backbone's first, parents before those that depend on them."""
        return tuple(
            option
            for _, options in self.knobs
            for option in options
            if isinstance(option, Parameter)
        )

    def suggest(self, trial: BaseTrial) -> tuple[str, Knobs]:
        """Ask a trial for its active parameters; return its backbone's label and all knobs."""
        return self._resolved(self._walk(lambda parameter, _: parameter.suggest(trial)))

    def resolve(self, params: Mapping[str, Any]) -> tuple[str, Knobs]:
        """Return what `suggest` returned for the trial that has these parameters.

        Raises:
            KeyError: an active parameter is missing.
        """
        return self._resolved(self._walk(lambda parameter, _: params[parameter.name]))

    def defaults(self) -> tuple[dict[str, Any], ...]:
        """Return, for each backbone, the active parameters of its untuned configuration."""
        return tuple(self._default(label) for label in self.spec.backbone_labels)

    def grid(self) -> list[dict[str, Any]]:
        """Return the parameters of every distinct configuration.

        Raises:
            UsageError: a range of real numbers has no step.
        """
        return list(_combinations(self.knobs, {}))

    def _walk(self, choose: Callable[[Parameter, Values], Any]) -> Values:
        values: Values = {}
        for knob, options in self.knobs:
            option = _active(options, values)
            if isinstance(option, Constant):
                values[knob] = option.value
            elif option is not None:
                values[knob] = _plain(knob, choose(option, values))
        return values

    def _resolved(self, values: Values) -> tuple[str, Knobs]:
        label = str(values["backbone"])
        turned = {knob: value for knob, value in values.items() if knob != "backbone"}
        return label, Knobs.model_validate(self._untuned(label, values) | turned)

    def _untuned(self, label: str, values: Values) -> Values:
        """Return the untuned value of every knob, under the strategy chosen so far if any."""
        strategy = values.get("strategy", self.file_defaults.get("strategy"))
        recipe = auto.recipe(self.spec.backbone(label), str(strategy) if strategy else None)
        return Knobs().model_dump() | recipe | dict(self.file_defaults)

    def _default(self, label: str) -> dict[str, Any]:
        params: dict[str, Any] = {}

        def choose(parameter: Parameter, values: Values) -> Scalar:
            wanted = (self._untuned(label, values) | {"backbone": label})[parameter.knob]
            if parameter.knob in self.file_defaults and not parameter.holds(wanted):
                raise SpecError(
                    f"defaults.{parameter.knob}: {wanted!r} is outside the search space",
                    f"for {label}, {parameter.name} is {parameter.in_words()}",
                    f"widen search_space.{parameter.knob}, or choose a default inside it",
                )
            params[parameter.name] = near = parameter.nearest(wanted)
            return near

        self._walk(choose)
        return params


def _active(options: Sequence[Option], values: Values) -> Option | None:
    return next((option for option in options if holds(option.when, values)), None)


def _plain(knob: str, value: Any) -> Scalar:
    plain: Scalar = str(value) if knob == "backbone" else knobs.check(knob, value)
    return plain


def _combinations(
    left: Sequence[tuple[str, tuple[Option, ...]]], values: Values
) -> Iterator[dict[str, Any]]:
    if not left:
        yield {}
        return
    (knob, options), *rest = left
    option = _active(options, values)
    if not isinstance(option, Parameter):
        fixed = {} if option is None else {knob: option.value}
        yield from _combinations(rest, values | fixed)
        return
    for value in option.values():
        for others in _combinations(rest, values | {knob: _plain(knob, value)}):
            yield {option.name: value} | others
