"""Volumes: a dataset each, made, mounted on the host, listed and removed."""
