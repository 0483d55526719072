"""Fixtures of this lane."""

from helpers.databases import database_store
from helpers.networked import hosted_store, hosts, place
from helpers.store import busybox_store, store

__all__ = ["busybox_store", "database_store", "hosted_store", "hosts", "place", "store"]
