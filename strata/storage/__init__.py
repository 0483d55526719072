"""Datasets: the driver interface, its capability facts, and the drivers."""
