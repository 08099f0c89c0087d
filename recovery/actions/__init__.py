"""Every write of recovery. The environment is the root: each action locks it first, its own rows after it."""
