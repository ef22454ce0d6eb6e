"""Workers whose clocks and time zones disagree by hours."""

from __future__ import annotations

import datetime
import sys
import time
from dataclasses import dataclass
from typing import Any

from faults.bench import FINISH_SECONDS, Bench
from faults.ours import Ours
from faults.plain import Plain
from faults.tally import Tally
from faults.workers import Tweak, fleet

HOW = "time.time and datetime.now shifted by ±1 h in the worker's process; TZ and PGTZ differ"


@dataclass(frozen=True)
class Shift:
    """A clock that is wrong by so many seconds, in the process that calls it.

    Why: 2026-11: libfaketime is on few machines, and needs a new process with three seconds of
    imports. What tunesvc and Optuna know of the time they ask `time` and `datetime`; psycopg2 and
    libpq send none of their own.
    """

    seconds: float

    def __call__(self) -> None:
        """Shift `time.time` for all, and `datetime.now` as tunesvc and Optuna know it."""
        seconds, now, now_ns, real = self.seconds, time.time, time.time_ns, datetime.datetime
        time.time = lambda: now() + seconds
        time.time_ns = lambda: now_ns() + int(seconds * 1e9)

        class Kind(type(real)):  # type: ignore[misc]
            def __instancecheck__(cls, value: object) -> bool:
                return isinstance(value, real)

        class Shifted(real, metaclass=Kind):  # type: ignore[misc, valid-type]
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return real.now(tz) + datetime.timedelta(seconds=seconds)

            @classmethod
            def utcnow(cls) -> Any:
                return cls.now(datetime.UTC).replace(tzinfo=None)

        for module in list(sys.modules.values()):
            if module is not None and module.__name__.split(".")[0] in ("optuna", "tunesvc"):
                for key, value in list(vars(module).items()):
                    if value is real:
                        setattr(module, key, Shifted)


TWEAKS = {
    0: Tweak({"TZ": "Pacific/Auckland", "PGTZ": "Pacific/Auckland"}, Shift(3600)),
    1: Tweak({"TZ": "America/New_York", "PGTZ": "America/New_York"}, Shift(-3600)),
    2: Tweak({"TZ": "UTC", "PGTZ": "UTC"}),
}


def skewed(bench: Bench, side: Ours | Plain) -> Tally:
    """Three workers, an hour ahead, an hour behind, and right; the one ahead is killed once."""
    with fleet(side, len(TWEAKS), TWEAKS) as workers:
        time.sleep(3)
        workers.kill(workers.workers[0])
        ended = workers.finish(FINISH_SECONDS)
    return bench.count(side, workers, ended=ended, kills=1, note=HOW)
