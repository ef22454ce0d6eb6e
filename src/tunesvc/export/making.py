"""The folder: everything in it is made and checked before any of it is to be seen.

Why: 2026-11: the other forms are made in a scratch folder first, for `study.json` tells how far
they are from torch, and is written before anything else.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from tunesvc import data, exported, interrupt
from tunesvc import study as studies
from tunesvc.export import forms, scored, story
from tunesvc.export.card import Card
from tunesvc.export.choose import Choice, choose
from tunesvc.export.forms import Form
from tunesvc.export.origin import origin
from tunesvc.export.requirements import requirements
from tunesvc.export.soup import Soup, soup
from tunesvc.export.trained import Bench, Made, anew, as_kept
from tunesvc.export.wish import Wish
from tunesvc.exported import Description, Evaluation, Record
from tunesvc.provenance import provenance
from tunesvc.shelf import Shelf
from tunesvc.study import Study
from tunesvc.train import place
from tunesvc.trial import Desk, retention

CARD, REQUIREMENTS = "README.md", "requirements.txt"
_COMPARED = 32  # validation images that other forms are compared on


def _nothing(_line: str) -> None:
    pass


@dataclass(frozen=True)
class Written:
    """What was exported.

    Args:
        path: of the folder.
        record: its `study.json`.
        validation: None where the model was trained on these images.
        test: None where the data has no test split.
        soup: what came of it; None: none was asked for.
        files: name → bytes.
        seconds: that it took.
    """

    path: Path
    record: Record
    validation: Evaluation | None
    test: Evaluation | None
    forms: tuple[Form, ...]
    soup: Soup | None
    files: Mapping[str, int]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return it as `tunesvc export --json` prints it."""
        told = self.record.selection
        return {
            "path": str(self.path),
            "study": told["study"],
            "of_study": told["of_study"],
            "trial": told["trial"],
            "how": told["how"],
            "backbone": self.record.runs[0].label,
            "made": self.record.made,
            "remark": told["remark"],
            "trained_on": list(self.record.trained_on),
            "metric": self.record.metric,
            "validation": _metrics(self.validation),
            "test": _metrics(self.test),
            "soup": None if self.soup is None else asdict(self.soup),
            "forms": [form.as_json() for form in self.forms],
            "files": dict(self.files),
            "seconds": round(self.seconds, 1),
        }


def _metrics(found: Evaluation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {name: each.as_json() for name, each in found.metrics.items()}


def export(
    study: Study,
    wish: Wish,
    into: Path,
    *,
    shelf: Shelf,
    cache: Path,
    device: str | None = None,
    say: Callable[[str], None] = _nothing,
) -> Written:
    """Write the model that a wish means into a folder, which appears in one step.

    Args:
        shelf: that holds the checkpoints.
        cache: this machine's folder for what can be made again.
        say: is given a line now and then.

    Raises:
        StudyError: no such trial, none that has ended, or its model is not kept.
        UsageError: something else is in the folder; nothing keeps within the caps.
        DataError, WeightsError, StorageError: this machine cannot rebuild the model.
        TrainingError: it was to be trained anew, and diverged.
    """
    begun = time.perf_counter()
    exported.check_place(into, force=wish.force)
    choice = choose(study, wish, lambda of, number: number in retention.kept(shelf, of))
    say(f"trial {choice.trial.number} of {choice.study.name}: {choice.how}")
    bench = Bench(Desk(choice.study, cache, shelf), place(device), say)
    made, stirred = _made(bench, choice, wish)
    if stirred is not None:
        say(str(stirred))
    with TemporaryDirectory(prefix="tunesvc-export-") as scratch:
        work = _Work(study, choice, _measuring(bench), made, wish, Path(scratch))
        written = work.write(into, say)
    return replace(written, soup=stirred, seconds=time.perf_counter() - begun)


def _made(bench: Bench, choice: Choice, wish: Wish) -> tuple[Made, Soup | None]:
    if wish.refit is not None:
        return anew(bench, choice, wish.refit), None
    kept = _measuring(bench)
    if wish.soup is not None:
        return soup(kept, choice, wish.soup)
    return as_kept(kept, choice), None


def _measuring(bench: Bench) -> Bench:
    """Return the same in float32: what is written is measured, and it computes in that."""
    return replace(bench, placement=bench.placement.settled(autocast=False))


@dataclass(frozen=True)
class _Work:
    """What one folder is made of.

    Args:
        bench: that measures.
    """

    study: Study
    choice: Choice
    bench: Bench
    made: Made
    wish: Wish
    scratch: Path

    def write(self, into: Path, say: Callable[[str], None]) -> Written:
        desk, made = self.bench.desk, self.made
        config = made.run.config
        description = exported.describe(
            made.run.backbone, config.backbone, desk.task, desk.listing.classes,
            dropout=config.knobs.dropout,
        )  # fmt: skip
        (split,) = desk.splits(config, "val", tick=interrupt.check)
        module = _plain(made.run.module, description)
        pictures = scored.pictures(self.bench, made, split, _COMPARED)
        formed = tuple(forms.write(self.scratch, module, pictures, onnx=self.wish.onnx))
        for form in formed:
            say(str(form))
        is_seen = "val" in made.trained_on
        validation = None if is_seen else scored.score(self.bench, made, split)
        test = scored.on_test(self.bench, self.choice, made)
        record = self._record(validation, test, formed)
        card = Card(description, record, validation, test, formed, data.describe(desk.listing),
                    datetime.now(UTC).date().isoformat())  # fmt: skip

        def also(draft: Path) -> None:
            for file in self.scratch.iterdir():
                shutil.copyfile(file, draft / file.name)
            (draft / CARD).write_text(card.text(), encoding="utf-8")
            (draft / REQUIREMENTS).write_text(self._requirements(description), encoding="utf-8")

        interrupt.check()
        path = exported.write(
            into, module, description, record,
            starts=made.starts, force=self.wish.force, also=also,
        )  # fmt: skip
        files = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
        return Written(path, record, validation, test, formed, None, files, 0.0)

    def _record(
        self,
        validation: Evaluation | None,
        test: Evaluation | None,
        formed: tuple[Form, ...],
    ) -> Record:
        of, made, desk = self.choice.study, self.made, self.bench.desk
        metric, direction = studies.objective(of.spec)
        config = made.run.config
        began = origin(config.backbone, of.base, pretrained=config.pretrained)
        told = story.selection(self.study, self.choice, made, began)
        run = self.choice.trial.user_attrs.get("run") or {}
        placed = made.run.placement.describe()
        is_anew = made.made != "soup" and not made.is_own
        return Record(
            study=of.name,
            digest=of.spec.digest,
            spec=of.spec.model_dump(mode="json"),
            base=str(of.base.absolute()),
            made=made.made,
            trained_on=made.trained_on,
            metric=metric,
            direction=direction,
            runs=made.runs,
            fingerprint=desk.listing.fingerprint,
            images={name: len(items) for name, items in desk.listing.splits.items()},
            validation=scored.values(validation),
            test=scored.values(test),
            noise=story.noise(self.study, self.choice),
            selection=told | {"forms": [form.as_json() for form in formed]},
            hardware=placed if is_anew else {key: run.get(key) for key in placed},
            provenance={
                key: known if is_anew else run.get(key, known)
                for key, known in provenance().items()
            },
        )

    def _requirements(self, description: Description) -> str:
        has_onnx = (self.scratch / forms.ONNX).exists()
        return requirements(
            backbone=description.backbone.name, task=description.task, onnx=has_onnx
        )


def _plain(module: nn.Module, description: Description) -> nn.Module:
    """Return a model's copy on the CPU, in the usual layout, in evaluation mode."""
    plain = exported.rebuild(description).module
    state = {name: value.detach().cpu().contiguous().clone()
             for name, value in module.state_dict().items()}  # fmt: skip
    plain.load_state_dict(state, assign=True)
    return plain.eval().requires_grad_(False)
