"""Training steps that are compiled where it pays: `torch.compile`, with CUDA graphs on CUDA.

Only the forward and backward pass of what comes before the head is compiled, for full batches: the
last smaller one, and evaluation, run through the same module as they are. Parameters, their names
and states are the plain module's, so a run can go on eagerly anywhere.

Why: 2026-11: compiled numbers differ from eager ones by rounding (1e-7 of a parameter after four
steps of SGD). A trial that is taken over by a worker that has not compiled goes on within that, not
bit for bit. Adam makes more of it where a gradient is nothing but rounding, as is that of a bias in
front of a batch-norm.

Why: 2026-11: whether it pays is asked between two epochs, when the one before has been kept: who
is killed while compiling has lost nothing else. A run that tries goes by turns, an eager and a
compiled epoch, twice, since a machine that others share is not equally fast for long.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from tunesvc import hostcache
from tunesvc.train import compiler, stepping
from tunesvc.train.compiler import Step
from tunesvc.train.stepping import Verdict

if TYPE_CHECKING:
    from tunesvc.train.run import Progress, Run

log = logging.getLogger(__name__)

Choice = Literal["auto", "on", "off"]

_LOOKS = 2  # epochs of each sort that a run that tries measures


Steps = dict[str, Step]  # of one model, by the kind's digest


@dataclass(eq=False)
class Compiling:
    """Which steps of one run are compiled.

    Args:
        choice: "auto": where it pays; "on": wherever it can be.
        folder: of what is known on this host, and of inductor's files.
        steps: the model's, from earlier runs; added to.
        apart: what compiling, which may take minutes, is done within.
    """

    choice: Choice = "off"
    folder: Path = Path()
    steps: Steps = field(default_factory=dict)
    apart: Callable[[], AbstractContextManager[Any]] = nullcontext
    seconds: float = field(init=False, default=0.0)  # that compiling took
    epochs: int = field(init=False, default=0)  # that were compiled
    _verdict: Verdict = field(init=False, default=Verdict(False, "no step was taken"))
    _failed: str = field(init=False, default="")
    _kind: dict[str, object] = field(init=False, default_factory=dict)
    _name: str = field(init=False, default="")
    _begun: tuple[int, float] | None = field(init=False, default=None)  # batches, seconds compiling
    _heads: list[nn.Module] = field(init=False, default_factory=list)
    _times: dict[str, tuple[list[float], list[float]]] = field(init=False, default_factory=dict)
    _run: str = field(init=False, default_factory=lambda: secrets.token_hex(4))

    # ---- epochs

    def begin(self, run: Run, progress: Progress) -> None:
        """Decide for the epoch that has begun, or goes on."""
        if self.choice == "off":
            self._verdict = Verdict(False, "switched off")
            return
        self._begun = progress.batches, self.seconds
        self._kind = _kind(run)
        told = json.dumps(self._kind, sort_keys=True)
        self._name = hashlib.sha256(told.encode()).hexdigest()[:24]
        self._heads = [run.module.get_submodule(name) for name in run.backbone.head.modules]
        self._verdict = self._decided(run, progress.batches)

    def end(self, progress: Progress) -> None:
        """Note how long the steps of an epoch have taken, if it was not interrupted."""
        if self._begun is None:
            return
        before, compiling = self._begun
        self.epochs += self._verdict.pays
        if before == 0 and progress.batches:
            took = progress.seconds - (self.seconds - compiling)
            self._measured[self._verdict.pays].append(took / progress.batches)
            self._remember()

    def describe(self) -> dict[str, Any]:
        """Return what was done, and why, as a trial stores it; seconds."""
        told: dict[str, Any] = {"used": self.epochs > 0, "why": self._verdict.why}
        if self.epochs:
            told |= {"epochs": self.epochs, "compile_seconds": round(self.seconds, 3)}
        names = ("eager_step", "compiled_step")
        for name, times in zip(names, self._times.get(self._name, ()), strict=False):
            if times:
                told[name] = round(min(times), 5)
        return told

    def _decided(self, run: Run, done: int) -> Verdict:
        if self._failed or _is_head_alone(run):
            return Verdict(False, self._failed or "nothing but the head is run")
        is_ready, known = self._name in self.steps, stepping.read(self._file)
        eager, compiled = self._measured
        if self.choice == "on" and not known.failed:
            return Verdict(True, "asked for")
        if eager and compiled and not known.failed:
            return _by_turns(eager, compiled)
        left = _steps_left(run) - done
        return stepping.pays(known, left, min(eager, default=None), is_ready=is_ready)

    @property
    def _measured(self) -> tuple[list[float], list[float]]:
        """The seconds of this kind's steps in this run, eager and compiled, epoch by epoch."""
        return self._times.setdefault(self._name, ([], []))

    @property
    def _file(self) -> Path:
        return self.folder / f"{self._name}.json"

    def _remember(self) -> None:
        eager, compiled = self._measured
        if eager and compiled:
            known = stepping.read(self._file)
            self._store(known.paired(self._run, min(eager), min(compiled)))

    def _store(self, known: stepping.Known) -> None:
        try:
            stepping.write(self._file, known, self._kind)
        except OSError as error:
            log.info("what compiling brings could not be stored: %s", error)

    # ---- batches

    def forward(self, module: nn.Module, given: Tensor) -> Tensor:
        """Return the outputs of a module in training for a batch (B, …), compiled or not."""
        if not self._verdict.pays:
            return _called(module, given)
        is_full = len(given) == self._kind["images"]
        return self._tried(module, given) if is_full else _called(module, given)

    def _tried(self, module: nn.Module, given: Tensor) -> Tensor:
        """Run the compiled step; what goes wrong is noted, and done eagerly."""
        from tunesvc.train.memory import is_out_of_memory  # which knows runs, and runs this file

        step = self.steps.get(self._name)
        try:
            if step is not None and step.module is module and step.shape == given.shape:
                return step(given)
            with self._alone(), self.apart():
                return self._first(module, given)
        except Timeout:
            self._verdict = Verdict(False, "another worker is compiling it")
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._give_up(error)
        return _called(module, given)

    def _first(self, module: nn.Module, given: Tensor) -> Tensor:
        """Compile, and run."""
        start = time.perf_counter()
        with compiler.at_work(self.folder / self._name):
            step = Step.of(module, given.shape, self._heads, is_graphed=bool(self._kind["graphs"]))
            outputs = step(given)
        took = time.perf_counter() - start
        self.steps[self._name] = step
        self.seconds += took
        log.info("compiled in %.1f s: %s", took, self._verdict.why)
        hostcache.trim(self.folder)
        self._store(stepping.read(self._file).made(took))
        return outputs

    def _give_up(self, error: Exception) -> None:
        words = next(iter(str(error).strip().splitlines()), "")
        why = f"cannot be compiled: {type(error).__name__}: {words}"
        log.info("%s; training goes on without", why)
        self._failed, self._verdict, self._begun = why, Verdict(False, why), None
        known = stepping.read(self._file)
        self._store(stepping.Known(known.pairs, known.cold_seconds, known.warm_seconds, why))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{self._name}.lock", timeout=0):
            yield


def _called(module: nn.Module, given: Tensor) -> Tensor:
    outputs: Tensor = module(given)
    return outputs


def _by_turns(eager: list[float], compiled: list[float]) -> Verdict:
    """Decide within a run that has compiled already, by its own times."""
    if min(len(eager), len(compiled)) < _LOOKS:
        return Verdict(len(compiled) < len(eager), "measured by turns")
    why = f"{min(compiled):.3g} s a step compiled, {min(eager):.3g} s eager"
    return Verdict(min(compiled) < min(eager), why)


# ---- what a step is


def _kind(run: Run) -> dict[str, object]:
    """Return everything that a compiled step, and what it saves, hangs on."""
    trainable = _trainable(run)
    stages = [s.name for s in run.backbone.stages if not trainable.isdisjoint(s.parameters)]
    knobs, described = run.config.knobs, run.placement.describe()
    del described["device"]  # cards of one name are alike
    return described | {
        "backbone": run.config.backbone.model_dump_json(include={"name", "kwargs"}),
        "crop": run.backbone.transform.crop,
        "images": _images(run),
        "trained": stages,
        "parameters": zlib.crc32("\n".join(sorted(trainable)).encode()),
        "frozen_bn": knobs.frozen_bn and run.plan.pretrained,
        "known_stages": run.inputs.frozen if run.inputs.outputs is not None else 0,
        "graphs": _is_graphed(run),
        "torch": str(torch.__version__),
        "compiler": shutil.which(os.environ.get("CXX", "g++")) or "",
    }


def _images(run: Run) -> int:
    """Count those that pass through the model at once, in the first piece of a full batch."""
    batch = min(run.config.knobs.batch_size, len(run.train.targets))
    return batch // math.ceil(batch / run.micro_batch)


def _trainable(run: Run) -> frozenset[str]:
    begun = [phase for phase in run.plan.phases if phase.first_epoch <= run.next_epoch]
    return begun[-1].trainable


def _steps_left(run: Run) -> int:
    """Count the steps until other parameters are trained, or all is over."""
    later = (p.first_epoch for p in run.plan.phases if p.first_epoch > run.next_epoch)
    return (next(later, run.config.epochs) - run.next_epoch) * run.steps_per_epoch


def _is_head_alone(run: Run) -> bool:
    return run.inputs.outputs is not None and run.inputs.frozen == len(run.backbone.stages)


def _is_graphed(run: Run) -> bool:
    """Whether steps are to be CUDA graphs: a batch in one piece, with memory for a second step.

    Why: 2026-11: a graph's tensors are written over by its next replay; gradients that add up over
    several pieces would be among them.
    """
    device = run.placement.device
    if device.type != "cuda" or run.micro_batch < run.config.knobs.batch_size:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return free >= torch.cuda.max_memory_allocated(device)
