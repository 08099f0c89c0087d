"""The workflow engine: PostgreSQL carries truth, Celery carries nudges."""
