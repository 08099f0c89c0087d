"""Odoo as recovery sees it: what a database says of itself, copies made harmless, and copies that are booted."""

from recovery.adapters.odoo.databases import observe_attachments, observe_odoo
from recovery.adapters.odoo.neutralising import ensure_neutralised, observe_neutralised

__all__ = ["ensure_neutralised", "observe_attachments", "observe_neutralised", "observe_odoo"]
