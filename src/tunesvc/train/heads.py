"""A stack of the heads of runs whose bodies stand still."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tunesvc import data
from tunesvc.backbones import has_plain_head
from tunesvc.spec import derive_seed
from tunesvc.train.run import Run
from tunesvc.train.stack import HeadJob, Stack


def job_of(run: Run) -> HeadJob:
    """Return what a stack has to know of a run at its beginning, its head copied.

    Runs of one warm model share it: each is asked before the next is prepared.
    """
    weight, bias = (run.module.get_parameter(name) for name in run.backbone.head.parameters)
    config = run.config
    return HeadJob(
        config.knobs, config.seed, config.epochs, weight.detach().clone(), bias.detach().clone()
    )


def stack_of(first: Run, jobs: Sequence[HeadJob]) -> Stack | None:
    """Return heads to be trained together; None where they cannot be.

    Args:
        first: one of the runs, with the outputs of its frozen stages at hand (`freeze`).
        jobs: of the runs, on the same images, with one backbone, augmentation and batch size.
    """
    outputs = first.inputs.outputs
    if outputs is None or not has_plain_head(first.backbone) or outputs.val.one(0).dim() != 2:
        return None
    features = outputs.train.stacked
    if features is None:
        return None
    views, count = first.inputs.views, len(first.train.targets)

    def draw(job: HeadJob, epoch: int) -> list[tuple[Tensor, Tensor]]:
        order = torch.Generator().manual_seed(derive_seed(str(job.seed), "epoch", epoch))
        size = job.knobs.batch_size
        return data.plan(count, size, training=True, generator=order, views=views)

    return Stack(
        features.float(), first.train.targets, outputs.val.one(0), first.val.targets,
        jobs=jobs, task=first.task, draw=draw,
        device=first.placement.device,
    )  # fmt: skip
