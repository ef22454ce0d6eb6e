"""Images and targets: sources → splits → decoded uint8 once per host → batches on the device.

spec.data ─ scan ─▶ Listing ─ decode ─▶ Split (memory-mapped) ─ batches ─▶ images, targets
"""

from tunesvc.data.cache import decode
from tunesvc.data.catalogue import scan
from tunesvc.data.listing import Items, Listing, Split, describe
from tunesvc.data.loader import batches

__all__ = ["Items", "Listing", "Split", "batches", "decode", "describe", "scan"]
