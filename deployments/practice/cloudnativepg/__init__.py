"""CloudNativePG in the practice estate: its kinds as it publishes them, what its webhook refuses, and how it counts.

Its controllers are `controllers/database_*.py`. How a database cluster fares is decided by its annotation
`practice.changecontrol.io/behaviour`, one or more of these words, separated by commas; taking one away heals it:

    archiving-fails   WAL is not archived: backups wait, and nothing later can be recovered
    backups-fail      every backup fails
    recovery-fails    what is recovered from it, or it itself where it is to be recovered, fails

A recovery fails too where its target lies before the first base backup ended, or after the last WAL that is archived.
"""
