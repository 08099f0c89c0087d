"""How fast backups and restores are, as ratios: `python -m tests.bench.recovery --size 1GB` (docs/speed.md)."""
