"""The verbs users know; the only room that joins storage, store and runtime."""
