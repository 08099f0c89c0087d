"""Who may sign in and how, cookies, headers, content security policy."""

from __future__ import annotations

from datetime import timedelta

from csp.constants import NONE, SELF

from changecontrol.project import env
from changecontrol.project.settings.base import BASE_URL, DEBUG, DEMO
from changecontrol.rules.approvals import FRESH_AUTHENTICATION

SECRET_KEY = env.text("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

IS_HTTPS = BASE_URL.startswith("https://")
SECURE_SSL_REDIRECT = False  # the ingress redirects; health checks come over plain HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("BEHIND_PROXY", default=False) else None
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = False
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
X_FRAME_OPTIONS = "DENY"
CLIENT_ADDRESS_HEADER = env.text("CLIENT_ADDRESS_HEADER", "")
"""The header in which a trusted proxy hands on the client's address; empty: the connection's own address counts."""

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

AUTH_USER_MODEL = "changecontrol.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "changecontrol.views.accounts.ClosedSignUpAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = int(FRESH_AUTHENTICATION.total_seconds())
ACCOUNT_RATE_LIMITS = False  # axes counts failures, in the database: see decision 5
ACCOUNT_PREVENT_ENUMERATION = True
MFA_TOTP_ISSUER = "ChangeControl"
MFA_FORMS = {
    "authenticate": "changecontrol.forms.second_factor.SecondFactorForm",
    "reauthenticate": "changecontrol.forms.second_factor.ConfirmationForm",
}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]

AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_USERNAME_CALLABLE = "changecontrol.views.accounts.name_to_count"
AXES_SENSITIVE_PARAMETERS = ["username", "login", "ip_address"]
AXES_LOCKOUT_TEMPLATE = "account/locked.html"
AXES_HTTP_RESPONSE_CODE = 429
AXES_ENABLE_ACCESS_FAILURE_LOG = False
AXES_VERBOSE = False

GUARDIAN_MONKEY_PATCH_USER = False
ANONYMOUS_USER_NAME = None

if DEMO and not DEBUG and IS_HTTPS:
    raise env.EnvironmentProblem("DEMO=1 is for loopback; a public BASE_URL needs DEMO=0.")
SILENCED_SYSTEM_CHECKS = ["guardian.W001"]  # `changecontrol.access` asks guardian's grants; no backend answers has_perm
