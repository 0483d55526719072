"""Strata: a container engine whose storage is ZFS."""

__version__ = "0.1.0"
