"""Who runs which trial: claim, renew, give back, take over; and what is wanted of the workers.

claims    one transaction for each: take a trial over or begin it, note a bad attempt
renewal   the thread that keeps leases alive, and learns that one was lost
worker    the leases of one worker
fenced    Optuna's storage for one leased trial
own       that trial, as its holder knows it
together  the ends of several trials, in one statement
writing   that statement, and what becomes of it
control   pause, resume, stop, put back failed trials, list workers
limits    what the trials of a study may take together
news      what runs and what has ended lately, for who counts it
words     what there is to say of a trial, for the database
sql       every statement; those that put failed trials back are in `sql_back`
"""

from tunesvc.leases.claims import Given, Lease, LeaseLost, Nothing, Terms
from tunesvc.leases.control import (
    Overspent,
    Standing,
    Worker,
    expire,
    held,
    pause,
    put_back,
    resume,
    spent,
    standing,
    stop,
    workers,
)
from tunesvc.leases.fenced import MEMORY, Fenced
from tunesvc.leases.limits import UNLIMITED, Limits, Spent
from tunesvc.leases.news import News, Run, news
from tunesvc.leases.renewal import PREPARATION_SECONDS, Leave, Watch
from tunesvc.leases.together import tell_together
from tunesvc.leases.words import Word
from tunesvc.leases.worker import Leases, worker_id

__all__ = [
    "MEMORY",
    "PREPARATION_SECONDS",
    "UNLIMITED",
    "Fenced",
    "Given",
    "Lease",
    "LeaseLost",
    "Leases",
    "Leave",
    "Limits",
    "News",
    "Nothing",
    "Overspent",
    "Run",
    "Spent",
    "Standing",
    "Terms",
    "Watch",
    "Word",
    "Worker",
    "expire",
    "held",
    "news",
    "pause",
    "put_back",
    "resume",
    "spent",
    "standing",
    "stop",
    "tell_together",
    "worker_id",
    "workers",
]
