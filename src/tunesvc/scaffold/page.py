"""A study as the text of a commented file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunesvc.scaffold.flow import flow, ranges
from tunesvc.scaffold.folder import FolderFacts
from tunesvc.spec import StudySpec
from tunesvc.spec.knobs import Knobs

SCHEMA = "study.schema.json"


def page(spec: StudySpec, facts: FolderFacts) -> str:
    """Return the text of the study file; `spec` has its search space spelled out."""
    head = f"""\
# yaml-language-server: $schema={SCHEMA}
#
# {facts.images} images of {len(facts.classes)} classes: {_listed(facts.classes)}.
# The rarest class has {facts.smallest} images.
# Everything here may be changed. `tunesvc check FILE` looks at it, `tunesvc up FILE` runs it.

description: {flow(spec.description)}

task: {spec.task}

data:
  kind: folder
  path: {flow(spec.data.model_dump()["path"])}   # relative to this file, or absolute
{_splits(facts)}
  # on_corrupt: skip   # leave out (and count) images that cannot be read; else they are an error
  # subset: 500        # a quick look at so many training images
  # image_size: 160    # smaller is faster; without it, as each backbone's own weights say

# Any torchvision classification model. `weights: none` starts from scratch; a path loads a file.
backbones:
"""
    return head + "".join(f"  - {flow(b.name)}\n" for b in spec.backbones) + _search(spec)


def _search(spec: StudySpec) -> str:
    return f"""
# What is searched: a list is a choice, a single value is fixed, low and high make a range.
# Of several variants the first whose `when` holds counts. `search_space: auto` means the same
# ready space, chosen by backbone.
search_space:
{_spelled_out(spec)}

# The configuration to beat, run first for every backbone, is each family's usual recipe; to set a
# part of it yourself:
# defaults: {{lr: 1e-3, batch_size: 32}}

objective:
  metric: accuracy   # or balanced_accuracy, precision, recall, f1, loss
# several at once: objective: [{{metric: accuracy}}, {{cost: latency_ms}}]

budget:
  trials: {spec.budget.trials}
  epochs: {spec.budget.epochs}   # of each trial that is not stopped early
  # hours: 8        # begin no trial after so long

sampler: {spec.sampler.kind}   # or random, gp, cmaes, grid, qmc
pruner: {flow(spec.pruner.model_dump(exclude_defaults=True) | {"kind": spec.pruner.kind})}
seed: {spec.seed}
"""


def _spelled_out(spec: StudySpec) -> str:
    space = spec.search_space if isinstance(spec.search_space, dict) else {}
    lines: list[str] = []
    for knob, variants in space.items():
        about = Knobs.model_fields[knob].description
        lines += [f"  # {about}"] if about else []
        lines += ranges(knob, variants)
    return "\n".join(lines)


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(re.sub(r"\s+", " ", name) for name in classes[:8])
    return shown + (f", … ({len(classes) - 8} more)" if len(classes) > 8 else "")


def _splits(facts: FolderFacts) -> str:
    if set(facts.splits) & {"val", "valid", "validation"}:
        return f"  # its own folders {', '.join(facts.splits)} are the splits"
    return "  split: {val: 0.2}  # share for validation; what nobody trains on decides"
