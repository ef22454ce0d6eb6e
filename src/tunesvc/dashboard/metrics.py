"""The service in numbers, for Prometheus.

    from one look at the database                   counted by this process, from look to look
    trials, leases, takeovers, queue, workers,      how long epochs and trials took that ended
    memory of the devices                           since it first looked

Why: 2026-11: counting 20,000 trials takes a few milliseconds, reading what each of their epochs
took takes seconds. So durations are counted as any process counts its own: from its start on, which
is what Prometheus expects. A look reads the trials that run, and those that ended since the one
before.

Why: 2026-11: a study's name is a label, and nothing else that a person can choose freely: there are
as many series as studies, and durations only of those at which somebody works.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tunesvc import __version__
from tunesvc.errors import StorageError
from tunesvc.leases import News, Run, news
from tunesvc.storage import Store, guard
from tunesvc.study import Census, Condition, Tally

log = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

EPOCH_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
TRIAL_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400)  # seconds
STATES = ("complete", "pruned", "fail", "running", "waiting", "remaining")
RUNNING = "RUNNING"


@dataclass
class _Seen:
    epochs: int
    is_told: bool


class Durations:
    """How long epochs and trials took, counted from look to look."""

    def __init__(self) -> None:
        self._epochs = Histogram(
            "tunesvc_epoch_seconds",
            "Seconds of a finished epoch, training and validation, counted since this dashboard "
            "was first asked.",
            ["study"], buckets=EPOCH_BUCKETS, registry=None,
        )  # fmt: skip
        self._trials = Histogram(
            "tunesvc_trial_seconds",
            "Seconds from a trial's beginning to its end, waits for a worker included, counted "
            "since this dashboard was first asked.",
            ["study", "state"], buckets=TRIAL_BUCKETS, registry=None,
        )  # fmt: skip
        self._seen: dict[int, _Seen] | None = None  # by trial id; None: nothing was looked at
        self._newest = 0
        self.since: datetime | None = None

    def count(self, told: News) -> None:
        """Count what is new."""
        before = self._seen
        self._seen = {run.trial_id: self._counted(run, before) for run in told.runs}
        self._newest, self.since = told.newest, told.now

    def _counted(self, run: Run, before: dict[int, _Seen] | None) -> _Seen:
        now = _Seen(len(run.epochs), run.state != RUNNING)
        if before is None:
            return now
        is_new = run.trial_id > self._newest
        # An older one that was not under way: put back, enqueued, …: nobody knows what was counted.
        known = before.get(run.trial_id, _Seen(0 if is_new else now.epochs, is_told=False))
        for seconds in run.epochs[known.epochs :]:
            if seconds is not None:
                self._epochs.labels(run.study).observe(seconds)
        if now.is_told and not known.is_told and run.seconds is not None:
            self._trials.labels(run.study, run.state.lower()).observe(run.seconds)
        return now

    def collect(self) -> Iterator[Metric]:
        """Return both histograms, without the moments at which their series were made."""
        for each in (*self._epochs.collect(), *self._trials.collect()):
            each.samples = [one for one in each.samples if not one.name.endswith("_created")]
            yield each


class Service(Collector):
    """The whole service, as a collector of prometheus-client; threads may share it."""

    def __init__(self, store: Store, census: Census) -> None:
        self._engine, self._census = store.engine, census
        self._durations, self._counting = Durations(), threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Look at the database; where it is away, tell only that."""
        with self._counting:  # two scrapes at once would count the same epoch twice
            families = list(self._looked())
            families += self._durations.collect()
        version = GaugeMetricFamily(
            "tunesvc_build_info", "Always 1; the version is in the label.", labels=["version"]
        )
        version.add_metric([__version__], 1)
        yield from (version, *families)

    def _looked(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("tunesvc_database_up", "Whether Postgres answered just now.")
        try:
            with guard():
                tallies = self._census.tallies()
                told = news(self._engine, self._durations.since)
        except StorageError as error:
            log.warning("no metrics of the database: %s: %s", error.what, error.why)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        self._durations.count(told)
        yield from (up, *_of_studies(tallies), *_of_workers(told))


def exposition(service: Service) -> bytes:
    """Return what Prometheus reads, in its text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(service)
    return generate_latest(registry)


def _of_studies(tallies: list[Tally]) -> Iterator[Metric]:
    conditions = Counter(each.condition for each in tallies)
    studies = GaugeMetricFamily("tunesvc_studies", "Studies by condition.", labels=["state"])
    for condition in get_args(Condition):
        studies.add_metric([condition], conditions[condition])
    trials = GaugeMetricFamily(
        "tunesvc_trials",
        "Trials by state; waiting: begun, and nobody is at work on them; remaining: not begun.",
        labels=["study", "state"],
    )
    for each in tallies:
        for state in STATES:
            trials.add_metric([each.study, state], getattr(each, state))
    takeovers = CounterMetricFamily(
        "tunesvc_takeovers", "Trials taken over from workers that were lost.", labels=["study"]
    )
    for each in tallies:
        takeovers.add_metric([each.study], each.takeovers)
    yield from (studies, trials, takeovers)
    yield _by_study(
        "tunesvc_leases",
        "Trials that live workers hold, those included that were claimed ahead.",
        ((each.study, each.leases) for each in tallies),
    )
    yield _by_study(
        "tunesvc_queue_depth",
        "Trials that wait for a worker: waiting and remaining ones of studies that are open.",
        ((each.study, each.queue) for each in tallies),
    )


def _by_study(name: str, about: str, values: Iterable[tuple[str, int]]) -> Metric:
    made = GaugeMetricFamily(name, about, labels=["study"])
    for study, value in values:
        made.add_metric([study], value)
    return made


def _of_workers(told: News) -> Iterator[Metric]:
    workers = GaugeMetricFamily(
        "tunesvc_workers",
        "Workers that have not left; lost: without a sign of life.",
        labels=["state"],
    )
    for state, number in told.workers.items():
        workers.add_metric([state], number)
    memory = GaugeMetricFamily(
        "tunesvc_gpu_memory_bytes",
        "The most memory that one of the last trials took of a CUDA device that a worker has now.",
        labels=["host", "device"],
    )
    for host, device, size in told.memory:
        memory.add_metric([host, device], size)
    yield from (workers, memory)
