"""Prints a report as PDF/UA. The same report gives the same bytes."""

from __future__ import annotations

import hashlib

from weasyprint import HTML

from changecontrol.errors import Permanent


def _refuse(url: str, *_: object, **__: object) -> dict[str, object]:
    # A report carries everything it shows; whatever its text names must not be fetched by the server.
    raise Permanent(f"A report tried to load {url[:60]}.")


def print_pdf(html: str) -> bytes:
    """Return the PDF. Dates and identifier come from the report itself, never from the clock."""
    identifier = hashlib.sha256(html.encode()).digest()[:16]
    printed: bytes = HTML(string=html, url_fetcher=_refuse).write_pdf(pdf_variant="pdf/ua-1", pdf_identifier=identifier)
    return printed
