"""Tests here look at pages in a real Chromium."""

from browsing import chromium, view

__all__ = ["chromium", "view"]
