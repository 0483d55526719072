"""What Strata remembers: records, journal, locks, leases, trash."""
