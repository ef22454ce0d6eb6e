"""Does our TPE find less than Optuna's? The same studies with both, and with a cap on the history.

    python benchmarks/speed/search_quality.py             writes benchmarks/search_quality.md
    python benchmarks/speed/search_quality.py --trials 50 only looks whether it runs; prints

Three landscapes with known optima, five seeds (twenty where the two do not draw the same), four
trials always side by side, in memory. Regret is the true value of the trial that was observed best,
over the optimum's.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler

from tunesvc.provenance import provenance
from tunesvc.search import Memory, Tpe
from tunesvc.search.memory import Seen

PAGE = Path(__file__).parents[1] / "search_quality.md"
AT_ONCE = 4
CAP = 100  # of the trials that are not good: the latest so many
ROTATION = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 6)))[0]

Landscape = Callable[[optuna.Trial], float]  # its least value is 0


def fine_tuning(trial: optuna.Trial) -> float:
    """Three strategies, each with parameters of its own; the best is 0 with the second."""
    strategy = trial.suggest_categorical("strategy", ["head", "stage", "all"])
    backbone = trial.suggest_categorical("backbone", ["a", "b", "c"])
    rate = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    decay = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    smoothing = trial.suggest_float("smoothing", 0.0, 0.3)
    loss = {"head": 0.3, "stage": 0.0, "all": 0.1}[strategy] + {"a": 0.2, "b": 0.0, "c": 0.1}[
        backbone
    ]
    loss += 0.1 * (math.log10(decay) + 4) ** 2 + (smoothing - 0.1) ** 2
    best_rate = {"head": -2.0, "stage": -3.0, "all": -4.0}[strategy]
    loss += 0.3 * (math.log10(rate) - best_rate) ** 2
    if strategy == "stage":
        loss += 0.05 * abs(trial.suggest_int("stages", 1, 5) - 2)
    if strategy != "head":
        loss += (trial.suggest_float("layer_decay", 0.5, 1.0) - 0.8) ** 2
    return loss


def valley(trial: optuna.Trial) -> float:
    """A rotated, ill-conditioned bowl in six parameters, and Rosenbrock's valley in two."""
    x = np.array([trial.suggest_float(f"x{i}", -2.0, 2.0) for i in range(6)])
    bowl = float(np.sum(10.0 ** np.linspace(0, 2, 6) * (ROTATION @ (x - 0.5)) ** 2))
    a, b = trial.suggest_float("a", -2.0, 2.0), trial.suggest_float("b", -1.0, 3.0)
    return bowl / 10 + (1 - a) ** 2 + 10 * (b - a**2) ** 2


def hills(trial: optuna.Trial) -> float:
    """Rastrigin's many minima in six parameters."""
    x = np.array([trial.suggest_float(f"x{i}", -3.0, 3.0) - 0.7 for i in range(6)])
    return float(np.sum(x**2 + 3 * (1 - np.cos(2 * np.pi * x)))) / 6


LANDSCAPES: dict[str, tuple[Landscape, float, int]] = {  # the deviation of its noise, and seeds
    "fine-tuning, conditional, 8 parameters": (fine_tuning, 0.0, 20),
    "rotated bowl and Rosenbrock, 8 parameters": (valley, 0.0, 5),
    "Rastrigin with noise, 6 parameters": (hills, 0.3, 5),
}


class Capped(Tpe):
    """Ours with the latest `CAP` of the worse trials only: what we do not do."""

    def _look(self, study: optuna.Study) -> Seen:
        seen = super()._look(study)
        self._seen = seen if len(seen.others) <= CAP else replace(seen, others=seen.others[-CAP:])
        return self._seen


def plain(seed: int, _: Memory) -> BaseSampler:
    """Optuna's own, with the same options."""
    return TPESampler(seed=seed, multivariate=True, group=True)


SAMPLERS: dict[str, Callable[[int, Memory], BaseSampler]] = {
    "Optuna's": plain,
    "ours": lambda seed, memory: Tpe(seed, memory=memory),
    f"ours, capped at {CAP}": lambda seed, memory: Capped(seed, memory=memory),
}


@dataclass(frozen=True)
class Search:
    """One study: what it found, the parameters it drew, and the CPU seconds that took."""

    regret: float
    drawn: list[dict[str, float]]
    seconds: float


def search(name: str, make: Callable[[int, Memory], BaseSampler], seed: int, trials: int) -> Search:
    """Run a study in which `AT_ONCE` trials always run side by side."""
    landscape, deviation, _ = LANDSCAPES[name]
    noise = np.random.default_rng(seed).normal(0.0, deviation, trials)
    study, memory, running = optuna.create_study(), Memory(), []
    began = time.process_time()
    for number in range(trials):
        study.sampler = make(1000 * seed + number, memory)
        trial = study.ask()
        running.append((trial, landscape(trial)))
        trial.set_user_attr("true", running[-1][1])
        if len(running) == AT_ONCE:
            first, value = running.pop(0)
            study.tell(first, value + noise[first.number])
    seconds = time.process_time() - began
    drawn = [trial.params for trial in study.get_trials(deepcopy=False)]
    return Search(study.best_trial.user_attrs["true"], drawn, seconds)


def main() -> None:
    """Search every landscape with every sampler; write the page, or print what would be on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    trials = parser.parse_args().trials
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    began = time.process_time()
    page = "\n".join(_page(trials)) + f"\n\n{_made_with(time.process_time() - began)}\n"
    print(page)
    if trials == parser.get_default("trials"):
        PAGE.write_text(page, encoding="utf-8")


def _page(trials: int) -> Iterable[str]:
    yield "# Our TPE beside Optuna's\n"
    yield f"Median regret of the seeds after {trials} trials, {AT_ONCE} side by side."
    yield "Better, equal and worse count seeds against Optuna's with the same seed; `the same` says"
    yield "how many of its draws were Optuna's before the first that differed. CPU seconds of all"
    yield "seeds. Written by `benchmarks/speed/search_quality.py`.\n"
    yield "| landscape | sampler | regret | better / equal / worse | the same | CPU s |"
    yield "|---|---|---|---|---|---|"
    for name, (*_, seeds) in LANDSCAPES.items():
        theirs: list[Search] = []
        for sampler, make in SAMPLERS.items():
            found = [search(name, make, seed, trials) for seed in range(seeds)]
            theirs = theirs or found
            yield f"| {name} | {sampler} | {_compared(found, theirs)} |"


def _compared(found: list[Search], theirs: list[Search]) -> str:
    regrets = [(one.regret, other.regret) for one, other in zip(found, theirs, strict=True)]
    better = sum(mine < other for mine, other in regrets)
    worse = sum(mine > other for mine, other in regrets)
    same = [_same(one.drawn, other.drawn) for one, other in zip(found, theirs, strict=True)]
    return " | ".join(
        [
            f"{median(mine for mine, _ in regrets):.4g}",
            f"{better} / {len(regrets) - better - worse} / {worse}",
            f"{min(same)}–{max(same)}" if min(same) < max(same) else f"{min(same)}",
            f"{sum(one.seconds for one in found):.0f}",
        ]
    )


def _same(one: list[dict[str, float]], other: list[dict[str, float]]) -> int:
    pairs = enumerate(zip(one, other, strict=True))
    return next((number for number, (mine, theirs) in pairs if mine != theirs), len(one))


def _made_with(seconds: float) -> str:
    made = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    commit = str(made["git_commit"])[:12]
    cores = os.cpu_count()
    return (
        f"{versions}; {platform.platform()}, {cores} cores; commit {commit}; {seconds:.0f} CPU s."
    )


if __name__ == "__main__":
    main()
