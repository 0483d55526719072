"""Networks of containers: pure plans for `ip` and `nft`, leases, and the few effects on links."""
