"""Arrays made once per host, by whichever process comes first, and mapped by all.

An entry is one file: a NumPy array (`.npy`), then the notes of its maker (JSON), then a seal: a
mark, the length of the notes, and a CRC-32 of everything before. NumPy reads it as any `.npy`.

- Made once: a lock beside each entry; who waits for it ticks about every second.
- Whole or absent: written as a draft, synced, sealed, and only then renamed. What a killed maker
  leaves is a draft, whose lock died with it; the next who needs room removes it.
- Sound: the CRC is compared when a process first opens an entry; a damaged one is made anew.
- Bounded: a cache and its parts (decoded images, outputs of frozen stages, compiled steps) together
  take `TUNESVC_CACHE_GB` at most (default 20). For a new entry the disk space is taken before
  anything is computed, and what was not used for longest goes, unless a process has it open.

Why: 2026-11: CRC-32 guards against decayed disks and torn files, not against forgers, who could
as well change the weights. It is the quickest checksum of the standard library: 1.1 GB/s on one
core of a Xeon, where SHA-256 does 0.6. An entry is read whole once per process for it.

Why: 2026-11: an entry in use carries a shared `flock`. It belongs to the opened file, which a
memory mapping keeps open, so it ends when the last tensor on it is gone, however the process ends.
"""

from tunesvc.hostcache.entry import Kept
from tunesvc.hostcache.making import Draft, alone, fetch, trim
from tunesvc.hostcache.notes import note, noted
from tunesvc.hostcache.room import CacheFullError, limit_bytes
from tunesvc.hostcache.trees import hold

__all__ = [
    "CacheFullError",
    "Draft",
    "Kept",
    "alone",
    "fetch",
    "hold",
    "limit_bytes",
    "note",
    "noted",
    "trim",
]
