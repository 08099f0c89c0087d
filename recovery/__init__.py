"""Backups, restores and drills: what the deployments app asks, through `recovery.queries` alone."""
