"""The pages of changecontrol. Names are what other apps link to; one section per group of pages."""

from __future__ import annotations

from django.urls import URLPattern, path

from changecontrol.views import account, approvals, change, changes, first_run, home, inbox

CHANGES: list[URLPattern] = [
    path("", home.home, name="home"),
    path("changes/", changes.changes, name="changes"),
    path("changes/new/", changes.new, name="change-new"),
    path("changes/<str:number>/", change.change, name="change"),
    path("changes/<str:number>/edit/", changes.edit, name="change-edit"),
    path("changes/<str:number>/difference/", change.difference, name="change-difference"),
    path("changes/<str:number>/evidence-pack/", change.evidence_pack, name="evidence-pack"),
    path("changes/<str:number>/artefacts/<str:sha256>/", change.artefact, name="artefact"),
    path("changes/<str:number>/<slug:verb>/", change.act, name="change-action"),
    path("approvals/", approvals.approvals, name="approvals"),
    path("requirements/<int:requirement_id>/vote/", approvals.vote, name="vote"),
    path("requirements/<int:requirement_id>/withdraw-vote/", approvals.withdraw, name="withdraw-vote"),
    path("inbox/", inbox.inbox, name="inbox"),
    path("inbox/read/", inbox.read, name="inbox-read"),
    path("account/", account.account, name="account"),
    path("account/tokens/", account.token_create, name="token-create"),
    path("account/tokens/<int:token_id>/revoke/", account.token_revoke, name="token-revoke"),
    path("try/", first_run.first_run, name="first-run"),
]
"""Where a change lives: home, changes, approvals, inbox, account, the demo's guide."""

ESTATE_AND_PROOF: list[URLPattern] = []
"""Calendar, estate, audit, administration."""

urlpatterns = [*CHANGES, *ESTATE_AND_PROOF]
