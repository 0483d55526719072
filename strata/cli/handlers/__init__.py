"""What each command does: read the options, call the engine, print. Imported when it is run."""
