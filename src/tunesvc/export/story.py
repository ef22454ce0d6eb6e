"""How a model came to be chosen, and what it costs: for its card, and for `study.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tunesvc import study as studies
from tunesvc.analysis.confirmation import Noise as Spread
from tunesvc.analysis.paired import spread
from tunesvc.analysis.table import Estimate
from tunesvc.confirm import reruns
from tunesvc.export.choose import Choice
from tunesvc.export.origin import Origin
from tunesvc.export.trained import Made
from tunesvc.exported import Noise
from tunesvc.study import Study

_COSTS = {  # of the trial's own facts → in words
    "parameters": "parameters",
    "parameters_trainable": "of them trained",
    "gflops": "GFLOPs an image (a multiply-add counts as two)",
    "size_mb": "file in float32, MiB",
    "size_bf16_mb": "file in bfloat16, MiB",
    "size_int8_mb": "file with linear layers in int8, MiB",
    "infer_memory_mb": "memory of one image's inference, MiB (reckoned)",
}


def selection(study: Study, choice: Choice, made: Made, origin: Origin) -> dict[str, Any]:
    """Return how the model was selected, as plain data.

    Args:
        study: that was asked for; the choice may be of the one that confirms it.
    """
    status, spec = studies.status(study), study.spec
    return {
        "study": study.name,
        "trial": choice.trial.number,
        "of_study": choice.study.name,
        "how": choice.how,
        "chosen": choice.chosen,
        "among": choice.among,
        "remark": made.remark,
        "trials": {state: status.trials[state] for state in ("complete", "pruned", "fail")},
        "backbones": list(spec.backbone_labels),
        "sampler": spec.sampler.kind,
        "pruner": spec.pruner.kind,
        "metric": status.metric,
        "direction": status.direction,
        "objectives": [asdict(goal) for goal in studies.objectives(spec)],
        "caps": [str(cap) for cap in spec.constraints.caps],
        "told": choice.trial.values[0] if choice.trial.values else None,
        "confirmed": _confirmed(choice),
        "weights": asdict(origin),
        "costs": costs(choice.trial.user_attrs),
    }


def _confirmed(choice: Choice) -> dict[str, Any] | None:
    """Return what new seeds told of the configuration; None where nobody has run it again."""
    found = choice.winner
    if found is None or not isinstance(found.mean, Estimate):
        return None
    test, gap = found.test, found.gap
    return {
        "seeds": found.seeds,
        "validation": asdict(found.mean),
        "test": asdict(test) if isinstance(test, Estimate) else None,
        "gap": asdict(gap) if isinstance(gap, Estimate) else None,
    }


def costs(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the trial stored of its model's costs: what, how much, and where measured."""
    run, memory = told.get("run") or {}, told.get("memory") or {}
    rows = [_row(words, run.get(key)) for key, words in _COSTS.items()]
    rows += _latencies(run)
    device = f"{run.get('device_name')}, {run.get('precision')}"
    words = f"memory of training, MiB ({memory.get('kind')})"
    rows.append(_row(words, memory.get("mb"), device))
    rows.append(_row("training and validation, s an epoch", _epoch(told), device))
    phases = told.get("seconds") or {}
    rows.append(_row("the whole trial, s", sum(phases.values()) if phases else None, device))
    return [row for row in rows if row["value"] is not None]


def _latencies(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for told, of in ((run.get("latency"), "one image"), (run.get("batch_latency"), "a batch")):
        if not told:
            continue
        where = "{device_name}, {precision}, threads: {threads}".format(**told)
        size = told.get("batch", 1)
        words = of if size == 1 else f"{of} of {size}"
        rows += [
            _row(f"latency of {words}, ms (median)", told["ms"], where),
            _row(f"latency of {words}, ms (95th percentile)", told.get("p95_ms"), where),
        ]
        if size > 1:
            spent = told.get("joules")
            rows += [
                _row("images per second", size * 1e3 / told["ms"], where),
                _row("energy of one image, J", spent and spent / size, where),
            ]
    return rows


def _row(what: str, value: float | None, where: str = "") -> dict[str, Any]:
    return {"what": what, "value": value, "on": where}


def _epoch(told: Mapping[str, Any]) -> float | None:
    measured = [sum(each["seconds"].values()) for each in told.get("history") or ()
                if "seconds" in each]  # fmt: skip
    return sum(measured) / len(measured) if measured else None


def noise(study: Study, choice: Choice) -> Noise | None:
    """Return how far runs of one configuration lie apart; None where nobody ran any twice."""
    found = choice.confirmation
    if found is None or not isinstance(found.noise, Spread):
        return None
    within = found.noise.spread
    tests: dict[str, dict[int, float]] = {}
    for run in reruns(study):
        tests.setdefault(run.candidate, {})[run.seed] = run.test
    on_test = spread(list(tests.values()))
    return Noise(
        metric=found.metric,
        deviation=within.value,
        test_deviation=getattr(on_test, "sd", None),
        runs=within.trials,
        source=f"tunesvc confirm {study.name}: runs of the same configuration with other seeds",
    )
