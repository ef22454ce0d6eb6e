"""Images and targets: sources → splits → decoded uint8 once per host → batches on the device.

spec.data ─ scan ─▶ Listing ─ decode ─▶ Split (memory-mapped) ─ resident ─▶ Split (on the device)
                                          plan, draw ─▶ batches ─▶ images, targets
"""

from tunesvc.data.augment import OPERATIONS, Draw, apply, draw, views
from tunesvc.data.cache import decode
from tunesvc.data.catalogue import find, scan
from tunesvc.data.listing import Found, Items, Listing, Split, describe
from tunesvc.data.loader import batches, finished, of_view, plan
from tunesvc.data.resident import resident

__all__ = [
    "OPERATIONS",
    "Draw",
    "Found",
    "Items",
    "Listing",
    "Split",
    "apply",
    "batches",
    "decode",
    "describe",
    "draw",
    "find",
    "finished",
    "of_view",
    "plan",
    "resident",
    "scan",
    "views",
]
