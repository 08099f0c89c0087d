"""The pages of changecontrol. Names are what other apps link to; one section per group of pages."""

from __future__ import annotations

from django.urls import URLPattern, path

from changecontrol.views import (
    account,
    administration,
    approvals,
    audit,
    calendar,
    change,
    changes,
    estate,
    first_run,
    gallery,
    home,
    inbox,
    windows,
)

CHANGES: list[URLPattern] = [
    path("", home.home, name="home"),
    path("waiting/", home.waiting, name="waiting"),
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

ESTATE_AND_PROOF: list[URLPattern] = [
    path("calendar/", calendar.calendar, name="calendar"),
    path("windows/new/", windows.window_new, name="window-new"),
    path("windows/<int:window_id>/", windows.window, name="window"),
    path("windows/<int:window_id>/edit/", windows.window_edit, name="window-edit"),
    path("freezes/new/", windows.freeze_new, name="freeze-new"),
    path("freezes/<int:freeze_id>/lift/", windows.freeze_lift, name="freeze-lift"),
    path("estate/", estate.estate, name="estate"),
    path("estate/stores/", estate.stores, name="estate-stores"),
    path("estate/<slug:kind>/new/", estate.estate_new, name="estate-new"),
    path("estate/<slug:kind>/<int:pk>/edit/", estate.estate_edit, name="estate-edit"),
    path("environments/<slug:tenant>/<slug:slug>/", estate.environment, name="environment"),
    path("audit/", audit.audit, name="audit"),
    path("administration/", administration.administration, name="administration"),
    path("administration/policies/new/", administration.policy_new, name="policy-new"),
    path("administration/policies/<int:policy_id>/", administration.policy, name="policy"),
    path("administration/people/<slug:tenant>/", administration.people, name="people"),
    path("administration/people/<slug:tenant>/grant/", administration.role_grant, name="role-grant"),
    path("administration/people/<slug:tenant>/revoke/", administration.role_revoke, name="role-revoke"),
    path("administration/people/<slug:tenant>/add/", administration.person_new, name="person-new"),
    path("components/", gallery.gallery, name="components"),
]
"""Calendar, estate, audit, administration."""

urlpatterns = [*CHANGES, *ESTATE_AND_PROOF]
