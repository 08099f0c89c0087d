"""The demo retailer: three tenants, 150 stores, twenty environments, their Git repositories and what already runs.

Rehearsal only: `manage.py load_demo` loads it, and no production code imports it.
"""
