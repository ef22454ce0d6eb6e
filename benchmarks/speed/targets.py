"""What each row must reach (issue 4), and what is to be said where it falls short."""

from __future__ import annotations

from speed.table import Target


def _least(ratio: float) -> Target:
    return Target("ratio", ratio, is_least=True)


def _most(value: float) -> Target:
    return Target("value", value, is_least=False)


TARGETS: dict[str, Target] = {
    "head_only_warm": _least(100),
    "head_only_30_cold": _least(20),
    "last_stage_warm": _least(2.5),
    "full_epoch": _least(1.5),
    "full_step_vs_limit": _least(0.95),
    "mixed_study": _least(5),
    "mixed_study_ray": _least(3),
    "gap": _most(50),
    "gap_share": _most(2),
    "peak_memory": _most(1.2),
    "storage_random_0k": _most(8),
    "storage_random_1k": _most(8),
    "storage_random_20k": _most(8),
    "storage_tpe_1k": _most(60),
    "storage_tpe_20k": _most(100),
    "storage_tpe_1k_4_workers": _most(100),
    "storage_tpe_20k_4_workers": _most(200),
    "storage_trips_none": _most(8),
    "storage_trips_asha": _most(8),
    "storage_100_running": _most(60),
    "storage_first_trial": _most(2),
    "storage_memory": _most(250),
    "storage_crowd_32": _least(3),
}

ON_CUDA: dict[str, Target] = {"full_epoch": _least(5)}

_TRIPS = (
    "Seven round trips: on this machine each takes more than a millisecond, as the peer's own "
    "figures show beside other runs of it. Needed: a machine whose Postgres answers in one."
)

# row → why it falls short, and what would be needed; printed only where it does.
NOTES: dict[str, str] = {
    "head_only_warm": "A trial of the smallest net takes so little on either side that telling it "
    "to Postgres and choosing the next one weigh as much as training its head.",
    "head_only_30_cold": "Once for the thirty: decoding, the features of every view, the league, "
    "and what is measured of a backbone. The smaller the net, the less they spare.",
    "full_epoch": "From an empty home, and with a few epochs: what is done once per host is in it. "
    "In two epochs of MobileNetV2 at 128 pixels 8.5 of 9.8 s were steps and evaluation, which both "
    "sides do (see full_step_vs_limit), 0.3 decoding, which the peer does at every epoch, 0.2 "
    "building the net; in two of ×0.35 at 64 pixels 2.3 of 4 s were steps and evaluation, 0.3 "
    "decoding, 0.6 building the net and measuring the precision it is quicker in, the rest its "
    "latency and the start. Needed: more epochs, images that take longer to decode, or a device on "
    "which steps are cheaper.",
    "full_step_vs_limit": "On one thread 97 to 99 % of the limit are reached. On two, steps of the "
    "smallest net took three workers 42.8 to 48.8 ms and three processes of the limit, by turns, "
    "42.6 to 44.7: the forward pass as long, the backward pass 23.6 to 27.5 ms and 23.4 to 25. "
    "Beside it a batch takes 1.3 ms to make, and a checkpoint after each epoch of a second its "
    "share of two cores.",
    "gap_share": "Gaps have no part in it that computes outputs for later trials; what is left is "
    "building backbones, the latency of each (a quarter of a second, once per host), waiting for "
    "another worker's outputs, and drawing trials: some 30 ms a trial, two seconds of thirty to "
    "forty. Needed: trials of more than a second and a half, on average.",
    "peak_memory": "Nearly all of this need is torch. 60 MB more are the libraries of the study's "
    "side (Optuna, SQLAlchemy); the others, for decoded images, larger batches in evaluation, a "
    "checkpoint's copy and what is measured of a net, have not been taken apart.",
    "mixed_study": "A fifth of plain Optuna's time is less than the workers' imports and the "
    "league take, six seconds; the rest of ours are for the most part steps that both sides take "
    "(of trials that train all stages, or norms and biases in all). Needed: a device on which "
    "steps are cheap beside decoding, or a longer study, on more images. When a search first gets "
    "to an accuracy is decided by a few validation images, of which there are some dozens.",
    "mixed_study_ray": "As for mixed_study.",
    "storage_random_0k": _TRIPS,
    "storage_random_1k": _TRIPS,
    "storage_random_20k": _TRIPS,
}


def target(row: str, device: str) -> Target | None:
    """Return what a row must reach on a device; None where nothing is asked of it."""
    return (ON_CUDA if device == "cuda" else {}).get(row) or TARGETS.get(row)
