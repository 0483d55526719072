"""Pure functions over the OCI documents: reference, digest, manifest, runtime spec."""
