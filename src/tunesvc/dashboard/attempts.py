"""How often somebody may try to log in: a few times at once, then ever more slowly.

Attempts are counted before the password is looked at, so that many at once gain nothing, and both
per user and per address: one user's password is not guessed from many addresses, nor many users'
from one.

Why: 2026-11: a private address may stand for everybody: Docker's gateway does where a port is
published on 127.0.0.1, and so does an SSH tunnel. One stranger behind it would lock all out, so
only users are counted there.

Source: OWASP, Authentication Cheat Sheet, "Protect Against Automated Attacks".
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST = 4096  # names and addresses that are remembered
REMEMBERED_SECONDS = 3600.0


@dataclass(frozen=True)
class _Rule:
    free: int  # attempts without a pause
    longest: float  # seconds of a pause

    def pause(self, failures: int) -> float:
        over = failures - self.free
        return 0.0 if over < 0 else min(self.longest, 2.0 ** min(over, 20))


# A stranger may keep a user waiting, but for a minute at most.
_RULES = {"user": _Rule(5, 60.0), "address": _Rule(20, 900.0)}

_PRIVATE = [
    ipaddress.ip_network(each)
    for each in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/64",
        "fc00::/7",
    )
]

_Key = tuple[str, str]


class Attempts:
    """Failed attempts of late; threads may share it.

    Args:
        clock: tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()  # count, latest

    def admit(self, name: str, address: str) -> float:
        """Count an attempt and return 0; or return how many seconds are to be waited before it."""
        now, keys = self._clock(), _keys(name, address)
        with self._lock:
            wait = max(self._wait(key, now) for key in keys)
            if wait <= 0:
                for key in keys:
                    self._note(key, now)
            return max(0.0, wait)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the user's failures, and count this attempt as none of the address's."""
        user, *places = _keys(name, address)
        with self._lock:
            self._failures.pop(user, None)
            for place in places:
                self._forgive(place)

    def _forgive(self, place: _Key) -> None:
        count, latest = self._failures.get(place, (0, 0.0))
        if count > 1:
            self._failures[place] = count - 1, latest
        else:
            self._failures.pop(place, None)

    def _wait(self, key: _Key, now: float) -> float:
        count, latest = self._failures.get(key, (0, 0.0))
        if now - latest > REMEMBERED_SECONDS:
            self._failures.pop(key, None)
            return 0.0
        return latest + _RULES[key[0]].pause(count) - now

    def _note(self, key: _Key, now: float) -> None:
        count, _ = self._failures.pop(key, (0, 0.0))
        self._failures[key] = count + 1, now
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)


def _keys(name: str, address: str) -> tuple[_Key, ...]:
    found = _network(address)
    return (("user", name),) if _is_shared(found) else (("user", name), ("address", found))


def _is_shared(network: str) -> bool:
    """Tell whether an address may stand for everybody: this host's, or of a network behind one."""
    try:
        first = ipaddress.ip_network(network).network_address
    except ValueError:
        return False
    return any(first in each for each in _PRIVATE)


def _network(address: str) -> str:
    """Return an address, of IPv6 the /64 that one customer has."""
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))
