"""The distribution protocol: client, authentication, blob downloads."""
