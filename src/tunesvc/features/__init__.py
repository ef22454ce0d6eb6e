"""Outputs of frozen stages, computed once per host, shared by every trial that freezes the same.

Key ─ fetch ─▶ (K, N, *F), memory-mapped ─ take ─▶ (B, *F)

N  images of a split
K  fixed views of an image
F  shape of what the frozen stages give for one image
"""

from tunesvc.features.entry import Compute, fetch, take
from tunesvc.features.key import Key

__all__ = ["Compute", "Key", "fetch", "take"]
