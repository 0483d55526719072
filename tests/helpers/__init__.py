"""Real servers and input for tests, shared by the lanes."""
