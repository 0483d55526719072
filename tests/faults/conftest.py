"""Fixtures of this lane."""

from helpers.store import busybox_store, store

__all__ = ["busybox_store", "store"]
