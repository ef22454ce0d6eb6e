"""Training a backbone from random weights: the first stage, before it is fine-tuned.

    file ─▶ data, backbone ─▶ fit (the trials' loop) ─▶ weights.safetensors, meta.json

The folder that comes out can be named as a backbone's `weights` in a study file.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save

from tunesvc import data, places, plugins, strategies, train
from tunesvc.backbones import Backbone, build
from tunesvc.checkpoint import whole
from tunesvc.data import Listing, Split
from tunesvc.provenance import provenance
from tunesvc.spec import TrialConfig, yaml_file
from tunesvc.spec.load import validate
from tunesvc.spec.pretrain_spec import PretrainSpec
from tunesvc.train import Epoch, Placement, Run, precision
from tunesvc.train.precision import Net

TASK = "image-classification"


def read(path: Path) -> PretrainSpec:
    """Read a pretrain file; its name is the file's stem unless the file says otherwise.

    Raises:
        SpecError: the file cannot be read, or does not fit.
    """
    document = yaml_file.read(path)
    if isinstance(document.value, dict):
        document = document._replace(value={"name": path.stem, **document.value})
    return validate(PretrainSpec, document, str(path))


def pretrain(
    path: Path,
    *,
    out: Path | None = None,
    keep_epochs: bool = False,
    device: str | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Path:
    """Train as the file says; return the folder with `weights.safetensors` and `meta.json`.

    Args:
        out: the folder; None: `weights/NAME` under the working folder.
        keep_epochs: also write `epoch-001`, `epoch-002`, … inside it.
        on_epoch: called after each epoch.

    Raises:
        SpecError, DataError, TrainingError
    """
    spec = read(path)
    folder = out or Path("weights") / spec.name
    command = ["tunesvc", "pretrain", str(path), *(["--out", str(out)] if out else [])]
    command += ["--keep-epochs"] * keep_epochs + (["--device", device] if device else [])
    work = _prepare(spec, path.parent, train.place(device), shlex.join(command))
    for epoch in train.fit(work.run):
        work.epochs.append(epoch)
        if on_epoch:
            on_epoch(epoch)
        if keep_epochs:
            _write(work, folder / f"epoch-{epoch.index + 1:03d}", final=None)
    _write(work, folder, final=_final(work))
    return folder


@dataclass
class _Work:
    spec: PretrainSpec
    command: str
    listing: Listing
    splits: dict[str, Split]
    run: Run
    epochs: list[Epoch] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)


def _prepare(spec: PretrainSpec, base: Path, placement: Placement, command: str) -> _Work:
    task = plugins.load("task", TASK)
    listing = data.scan(spec.data, target=task.target, base=base)
    train.seed(spec.seed)

    def another() -> Backbone:
        return build(
            spec.backbone,
            task.num_outputs(listing.classes),
            base=base,
            dropout=spec.knobs.dropout,
            pretrained=False,
            image_size=spec.data.image_size,
        )

    body = another()
    net = Net(spec.backbone, body.transform.crop, another)
    images = spec.epochs * len(listing.splits["train"])
    placement = precision.settled(placement, net, images, places.cache())
    splits = {
        name: data.decode(
            listing,
            name,
            body.transform.resize,
            on_corrupt=spec.data.on_corrupt,
            cache=places.cache(),
            interpolation=body.transform.interpolation,
        )
        for name in listing.splits
    }
    stages = [(stage.name, stage.parameters) for stage in body.stages]
    plan = strategies.plan(
        stages, body.head.parameters, body.norm_parameters, spec.knobs, spec.epochs
    )
    config = TrialConfig(spec.backbone, spec.knobs, spec.epochs, spec.seed)
    run = Run(body, task, splits["train"], splits["val"], config, placement, plan)
    return _Work(spec, command, listing, splits, run)


def _final(work: _Work) -> dict[str, dict[str, float]]:
    """Return the metrics of every split that was not trained on."""
    return {
        name: _rounded(train.evaluate(work.run, split))
        for name, split in work.splits.items()
        if name != "train"
    }


def _write(work: _Work, folder: Path, *, final: dict[str, dict[str, float]] | None) -> None:
    """Write the model as it stands; `meta.json` last, so that it vouches for the weights."""
    model = work.run.module.state_dict()
    weights = save({name: tensor.cpu().contiguous() for name, tensor in model.items()})
    with whole(folder / "weights.safetensors") as file:
        file.write(weights)
    meta = _meta(work) | {"weights_sha256": hashlib.sha256(weights).hexdigest(), "final": final}
    with whole(folder / "meta.json") as file:
        file.write((json.dumps(meta, indent=2) + "\n").encode())


def _meta(work: _Work) -> dict[str, Any]:
    spec, run = work.spec, work.run
    return {
        "name": spec.name,
        "description": spec.description,
        "command": work.command,
        "backbone": {"name": spec.backbone.name, "kwargs": spec.backbone.kwargs},
        "parameters": run.parameters_total,
        "transform": asdict(run.backbone.transform),
        "classes": list(work.listing.classes),
        "data": spec.data.model_dump(mode="json", exclude_unset=True)
        | {
            "fingerprint": work.listing.fingerprint,
            "images": {name: len(split.targets) for name, split in work.splits.items()},
        },
        "seed": spec.seed,
        "knobs": spec.knobs.model_dump(mode="json"),
        "epochs_planned": spec.epochs,
        "epochs": [
            {"epoch": e.index + 1, "train_loss": round(e.train_loss, 4)} | _rounded(e.metrics)
            for e in work.epochs
        ],
        "seconds": round(time.perf_counter() - work.began, 1),
        "hardware": run.placement.describe(),
        "date": datetime.now(UTC).date().isoformat(),
        **provenance(),
    }


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}
