"""The store as a whole: made, compared with the pool, repaired, emptied."""
