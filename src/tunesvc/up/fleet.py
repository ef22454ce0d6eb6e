"""The processes of one study on this machine: started, replaced, added to, stopped.

Why: 2026-11: each worker leads its own session, so that Ctrl-C in the terminal reaches only this
process, which then stops them in order. The storage's address travels in the environment, never in
arguments: it may hold a password, and `ps` shows arguments to everybody.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tunesvc import leases, places
from tunesvc.errors import REPLACE, TuneError
from tunesvc.processes import LABEL, PARENT
from tunesvc.up.packing import Packing
from tunesvc.up.placing import cores

log = logging.getLogger(__name__)

DASHBOARD = "dashboard"
STOP_SECONDS = 12.0  # a worker has this long to stop before it is killed
MAX_RESTARTS = 5  # in ten minutes, of a process that died without saying why (killed)
RESTART_SECONDS = 600.0


@dataclass
class _Process:
    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    label: str = ""  # tells apart the processes that were started in this place
    restarts: list[float] = field(default_factory=list)  # when, monotonic
    log_start: int = 0  # bytes that earlier runs left in the log
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.label = secrets.token_hex(3)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.log_start = out.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunesvc", *self.arguments],
                env=os.environ | self.environment | {LABEL: self.label},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_hopeless(self) -> bool:
        """Whether it was started again too often of late."""
        latest = time.monotonic() - RESTART_SECONDS
        self.restarts = [when for when in self.restarts if when > latest]
        return len(self.restarts) >= MAX_RESTARTS

    def again(self) -> None:
        """Start it again."""
        self.restarts.append(time.monotonic())
        self.start()

    def ended(self) -> int | None:
        return self.process.poll() if self.process else None

    def last_words(self) -> str:
        """Return the error that ended it, else its last lines; nothing of earlier runs."""
        written = self.log.read_bytes()[self.log_start :] if self.log.exists() else b""
        lines = written.decode(errors="replace").splitlines()
        errors = [index for index, line in enumerate(lines) if line.startswith("error:")]
        return "\n".join(lines[errors[-1] :] if errors else lines[-8:])


@dataclass
class Fleet:
    """The processes of one study on this machine; a context manager that stops them.

    Args:
        devices: one per worker; it grows with them.
        bury: is given the id of every worker that was killed, so that nobody waits for its lease
            to expire.
        packing: tells where workers are to be added; None: nowhere.
        until_done: workers leave when the study is done; else they wait for more to be ordered.
        compiling, precision: their `--compile` and `--precision`.
    """

    study: str
    storage: str | None
    devices: list[str]
    port: int | None
    bury: Callable[[str], None]
    packing: Packing | None = None
    until_done: bool = field(default=True, kw_only=True)
    compiling: str = field(default="auto", kw_only=True)
    precision: str = field(default="auto", kw_only=True)
    processes: list[_Process] = field(default_factory=list)

    def __enter__(self) -> Fleet:
        try:
            self._start_all()
        except BaseException:  # also a signal: nothing may be left running
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        for index, device in enumerate(self.devices):
            self._start_worker(index, device)
        if self.port:
            self._start(DASHBOARD, ["dashboard", "--port", str(self.port)])

    def _start_worker(self, index: int, device: str) -> None:
        arguments = ["worker", "--study", self.study, "--device", device]
        leaving = ["--until-done"] if self.until_done else []
        how = ["--compile", self.compiling, "--precision", self.precision]
        self._start(f"worker-{index}", [*arguments, *how, *leaving])

    def _start(self, name: str, arguments: list[str]) -> None:
        log = places.logs() / f"{self.study}-{name}.log"
        self.processes.append(_Process(name, arguments, self._environment(), log))
        self.processes[-1].start()

    def _environment(self) -> dict[str, str]:
        """Return what its processes are told; on the CPU each has its share of the cores.

        Why: 2026-11: those that come later have theirs kept free from the start, for a worker's
        threads are given once.
        """
        environment = {PARENT: str(os.getpid())}
        if self.storage:
            environment["TUNESVC_STORAGE"] = self.storage
        if "cpu" in self.devices:
            workers = max(len(self.devices), self.packing.most if self.packing else 0)
            environment["OMP_NUM_THREADS"] = str(max(1, cores() // workers))
        return environment

    def tend(self, note: Callable[[str], None] = log.warning) -> bool:
        """Replace what was killed, add what fits; return whether a worker is still at work.

        Args:
            note: is given one line for each process that is replaced or added.

        Raises:
            TuneError: a worker ended with an error that a new one would only repeat, or was
                killed again and again.
        """
        for each in self.processes:
            code = each.ended()
            if code and (each.name != DASHBOARD or not each.is_hopeless()):
                self._replace(each, code)
                note(f"{each.name} died ({_cause(code)}); replaced")
        working = any(each.ended() is None for each in self.processes if each.name != DASHBOARD)
        if working and self.packing:
            self._grow(self.packing, note)
        return working

    def _grow(self, packing: Packing, note: Callable[[str], None]) -> None:
        for device in packing.more(self.devices):
            index = len(self.devices)
            self.devices.append(device)
            self._start_worker(index, device)
            note(f"worker-{index} added on {device}: there is memory for it")

    def _replace(self, each: _Process, code: int) -> None:
        if each.name != DASHBOARD:
            if (0 < code < 128 and code != REPLACE) or each.is_hopeless():
                raise _failure(each, code)
            assert each.process is not None
            self.bury(leases.worker_id(each.process.pid, each.label))
        each.again()

    def __exit__(self, *_: object) -> None:
        running = [p.process for p in self.processes if p.process and p.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _failure(process: _Process, code: int) -> TuneError:
    error = TuneError(
        f"{process.name} ended ({_cause(code)})",
        process.last_words().removeprefix("error: ") or "it left no message",
        f"the whole log is {process.log}; the same command continues the study",
    )
    error.exit_code = code if 0 < code < 128 else 5
    return error
