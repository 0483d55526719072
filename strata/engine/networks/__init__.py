"""The verbs on networks, and what connects containers to them."""
