"""Containers: made, started, waited for, read, removed."""
