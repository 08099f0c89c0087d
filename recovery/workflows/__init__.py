"""What recovery carries out: each finds what is due, orders long work as a job, watches it, records what it made."""
