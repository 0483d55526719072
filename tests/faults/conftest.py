"""Fixtures of this lane."""

from helpers.kill import clean, shared
from helpers.store import busybox_store, store

__all__ = ["busybox_store", "clean", "shared", "store"]
