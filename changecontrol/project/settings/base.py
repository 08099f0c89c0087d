"""Apps, database, templates, static files, API."""

from __future__ import annotations

import os
from pathlib import Path

from changecontrol.lifecycles.change import ChangeKind, ChangeState, ChangeType
from changecontrol.lifecycles.run import RunState, TargetState
from changecontrol.project import env
from changecontrol.rules.content import OFFERED_KINDS, OFFERED_TYPES
from changecontrol.rules.roles import Role
from recovery.lifecycles.drill import DrillState
from recovery.lifecycles.point import BackupState, PointState
from recovery.lifecycles.restore import RestoreState
from recovery.rules.alarms import AlarmKind

BASE_DIR = Path(__file__).resolve().parents[3]

DEMO = env.flag("DEMO", default=False)
DEBUG = env.flag("DEBUG", default=False)
BASE_URL = env.text("BASE_URL", "http://127.0.0.1:8000")

INSTALLED_APPS = [
    "changecontrol.project.apps.ProjectConfig",
    "changecontrol",
    "recovery",
    "deployments",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.forms",
    "guardian",
    "axes",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "template_partials",
    "django_structlog",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "changecontrol.views.edge.DomainErrorMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "changecontrol.project.urls"
WSGI_APPLICATION = "changecontrol.project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "changecontrol.views.context.shell",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

_application_url = env.text("DATABASE_URL")
_owner_url = env.text("MIGRATION_DATABASE_URL", "")
IS_OWNER = bool(_owner_url) and os.environ.get("CHANGECONTROL_AS_OWNER") == "1"
"""Whether this process changes the schema (manage.py migrate) and so connects as its owner."""
_url = _owner_url if IS_OWNER else _application_url
DATABASES = {
    "default": {
        **env.database(_url),
        "CONN_MAX_AGE": env.whole_number("DATABASE_CONNECTION_SECONDS", 60),
        "CONN_HEALTH_CHECKS": True,
    }
}
DATABASE_OPTIONS = {
    "application_name": "changecontrol",
    "connect_timeout": 5,
    # A database that nothing reaches any more is given up well before the leases end (`LEASE_SECONDS`, a minute): a
    # beat must not wait for an answer while another worker takes the row over.
    "tcp_user_timeout": 15_000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""What libpq is told unless the address of the database says otherwise; the first timeout is in milliseconds."""
DATABASES["default"]["OPTIONS"] = {**DATABASE_OPTIONS, **DATABASES["default"]["OPTIONS"]}
DATABASE_ROLES_ARE_SEPARATE = (
    not _owner_url or env.database(_owner_url)["USER"] != env.database(_application_url)["USER"]
)
"""False only where both are known and one. Web and workers are best not given the owner's address at all."""
APPLICATION_ROLE = env.database(_application_url)["USER"]
"""The role that migrations grant the application's rights to."""
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": env.text("REDIS_URL"),
        "KEY_PREFIX": "changecontrol",
    }
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "static/"
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = env.flag("STATIC_AUTOREFRESH", default=DEBUG)
"""Look for a static file when it is asked for, in place of listing them all at the start."""

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "changecontrol.api.authentication.TokenAuthentication",
        "changecontrol.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "changecontrol.api.paging.KeysetPagination",
    "EXCEPTION_HANDLER": "changecontrol.api.problems.handle",
    "PAGE_SIZE": 50,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ChangeControl",
    "DESCRIPTION": "Every infrastructure change of a retailer's Odoo estate, from request to proof.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "ChangeState": ChangeState.choices(),
        "ChangeType": ChangeType.choices(),
        "ChangeKind": ChangeKind.choices(),
        "OfferedKind": sorted(OFFERED_KINDS),
        "OfferedType": sorted(OFFERED_TYPES),
        "RunState": RunState.choices(),
        "RunKind": [("assessment", "Assessment"), ("rollout", "Rollout")],
        "TargetState": TargetState.choices(),
        "Role": Role.choices(),
        "PointState": PointState.choices(),
        "BackupState": BackupState.choices(),
        "RestoreState": RestoreState.choices(),
        "DrillState": DrillState.choices(),
        "AlarmKind": AlarmKind.choices(),
        "PartKind": [
            ("database", "Database"),
            ("database_manifest", "Database manifest"),
            ("filestore_manifest", "Filestore manifest"),
            ("configuration", "Configuration"),
            ("evidence", "Evidence"),
        ],
        "BackupKind": [("base", "Base"), ("incremental", "Incremental"), ("dump", "Dump")],
    },
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
}
