"""Thin wrappers over what the kernel offers and the standard library lacks."""
