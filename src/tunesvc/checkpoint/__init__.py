"""Checkpoints: whole and verified or not at all, loaded without running what they hold."""

from tunesvc.checkpoint.flat import Flat, flattened
from tunesvc.checkpoint.kept import Mark, load, marked, save
from tunesvc.shelf import whole

__all__ = ["Flat", "Mark", "flattened", "load", "marked", "save", "whole"]
