"""The pages of changecontrol. Names are what other apps link to; one section per group of pages."""

from __future__ import annotations

from django.urls import URLPattern

CHANGES: list[URLPattern] = []
"""Where a change lives: home, changes, approvals, inbox, account, the demo's guide."""

ESTATE_AND_PROOF: list[URLPattern] = []
"""Calendar, estate, audit, administration."""

urlpatterns = [*CHANGES, *ESTATE_AND_PROOF]
