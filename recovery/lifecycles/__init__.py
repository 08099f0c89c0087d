"""What may become of recovery points, backups, restores and drills: tables, standard library alone."""
