"""What the demo shows of recovery: a shop's database that is sold from, backed up, restored and drilled for real."""
