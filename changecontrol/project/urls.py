"""Where every page and API call of the project begins."""

from __future__ import annotations

from allauth.account import views as account
from django.urls import include, path

from changecontrol.views import health

# Named one by one: nobody signs up or resets a password by themselves, so those addresses do not exist.
SIGN_IN = [
    path("login/", account.login, name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("password/change/", account.password_change, name="account_change_password"),
    path("password/set/", account.password_set, name="account_set_password"),
    path("second-factor/", include("allauth.mfa.urls")),
]

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("accounts/", include(SIGN_IN)),
    # Before the API's own: it ends with what answers where there is nothing.
    path("api/v1/recovery/", include("recovery.api.urls")),
    path("api/", include("changecontrol.api.urls")),
    # Before the changes' own: a run is found at an address below its change's.
    path("", include("deployments.urls")),
    path("", include("recovery.urls")),
    path("", include("changecontrol.urls")),
]
