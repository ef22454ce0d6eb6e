"""A commented study file for somebody's own folder of images (`tunesvc new-study --data`)."""

from tunesvc.scaffold.folder import FolderFacts, look
from tunesvc.scaffold.write import PRESETS, Preset, draft, schema_text, write, write_for_folder

__all__ = [
    "PRESETS",
    "FolderFacts",
    "Preset",
    "draft",
    "look",
    "schema_text",
    "write",
    "write_for_folder",
]
