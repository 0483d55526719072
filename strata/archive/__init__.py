"""Tar at the border: layers in and out, docker and OCI archives."""
