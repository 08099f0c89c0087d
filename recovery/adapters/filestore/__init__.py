"""Odoo's filestore behind the `FilestoreArchive` port: many small files in encrypted packs, and a manifest a point."""

from recovery.adapters.filestore.archive import StoredFilestores
from recovery.adapters.filestore.sources import BucketSource, FolderSource

__all__ = ["BucketSource", "FolderSource", "StoredFilestores"]
