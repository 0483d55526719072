"""What containers and volumes were: snapshots, branches, the way back, clones, reading the past."""
