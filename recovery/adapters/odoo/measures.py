"""What makes a copy of Odoo harmless, as data: one measure each for a table that can reach the world outside.

A measure names the rows that still could. Changing them and counting them are two readings of the same words, so a copy
is judged alike whoever neutralised it. Tables and columns that are not there need nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

DUMMY_SERVER = "neutralization - disable emails"
"""The name Odoo gives the server that goes nowhere: without an active one Odoo falls back to its configuration's."""
DUMMY_HOST = "invalid"
WEBHOOK: LiteralString = "'neutralization - disable webhook'"
DEAD_ACCOUNT: LiteralString = "'neutralised+disabled'"


@dataclass(frozen=True, slots=True)
class Measure:
    """`remains` is the condition of the rows that could still act; `change` sets them right, or None deletes them."""

    table: LiteralString
    columns: tuple[LiteralString, ...]
    remains: LiteralString
    change: LiteralString | None
    words: str
    """What is wrong, such as `outgoing mail servers are active`; the number of rows is said after it."""


MEASURES = (
    Measure(
        "ir_mail_server",
        ("active", "smtp_host"),
        "active AND smtp_host IS DISTINCT FROM 'invalid'",
        "active = false",
        "outgoing mail servers are active",
    ),
    Measure("fetchmail_server", ("active",), "active", "active = false", "incoming mail servers are active"),
    Measure(
        "mail_template",
        ("mail_server_id",),
        "mail_server_id IS NOT NULL",
        "mail_server_id = NULL",
        "mail templates name a mail server of their own",
    ),
    Measure(
        "mailing_mailing",
        ("mail_server_id",),
        "mail_server_id IS NOT NULL",
        "mail_server_id = NULL",
        "mailings name a mail server of their own",
    ),
    Measure("mail_mail", ("state",), "state = 'outgoing'", "state = 'cancel'", "mails wait to be sent"),
    Measure("sms_sms", ("state",), "state IN ('outgoing', 'process')", "state = 'canceled'", "SMS wait to be sent"),
    Measure("snailmail_letter", ("state",), "state = 'pending'", "state = 'canceled'", "letters wait to be posted"),
    Measure(
        "queue_job",
        ("state",),
        "state IN ('wait_dependencies', 'pending', 'enqueued', 'started')",
        "state = 'cancelled'",
        "queued jobs wait to be done",
    ),
    Measure("mail_push", (), "true", None, "push messages wait to be sent"),
    Measure("mail_push_device", (), "true", None, "devices are known for push messages"),
    Measure("mail_notification_web_push", (), "true", None, "push messages wait to be sent"),
    Measure("mail_partner_device", (), "true", None, "devices are known for push messages"),
    Measure(
        "ir_act_server",
        ("state", "webhook_url"),
        f"state = 'webhook' AND webhook_url NOT IN ('', {WEBHOOK})",
        f"webhook_url = {WEBHOOK}",
        "actions call a webhook",
    ),
    Measure("base_automation", ("active",), "active", "active = false", "automation rules are active"),
    Measure(
        "payment_provider",
        ("state",),
        "state NOT IN ('test', 'disabled')",
        "state = 'disabled'",
        "payment providers are enabled",
    ),
    Measure(
        "payment_acquirer",
        ("state",),
        "state NOT IN ('test', 'disabled')",
        "state = 'disabled'",
        "payment acquirers are enabled",
    ),
    Measure(
        "iap_account",
        ("account_token",),
        f"account_token NOT IN ('', {DEAD_ACCOUNT}, 'dummy_value+disabled')",
        f"account_token = {DEAD_ACCOUNT}",
        "IAP accounts hold their token",
    ),
    Measure(
        "delivery_carrier",
        ("active", "delivery_type"),
        "active AND delivery_type NOT IN ('fixed', 'base_on_rule')",
        "active = false",
        "delivery carriers of other companies are active",
    ),
    Measure("auth_oauth_provider", ("enabled",), "enabled", "enabled = false", "sign-in providers are enabled"),
    Measure("website", ("domain",), "domain <> ''", "domain = NULL", "websites answer to a domain"),
    Measure("website", ("cdn_activated",), "cdn_activated", "cdn_activated = false", "websites use a CDN"),
    Measure(
        "res_users_settings",
        ("google_synchronization_stopped",),
        "google_synchronization_stopped IS DISTINCT FROM true",
        "google_synchronization_stopped = true",
        "people synchronise a Google calendar",
    ),
    Measure(
        "res_users_settings",
        ("microsoft_synchronization_stopped",),
        "microsoft_synchronization_stopped IS DISTINCT FROM true",
        "microsoft_synchronization_stopped = true",
        "people synchronise a Microsoft calendar",
    ),
    Measure(
        "account_edi_proxy_client_user",
        ("active", "edi_mode"),
        "active AND edi_mode NOT IN ('demo', 'test')",
        "active = false",
        "accounts for electronic invoices are active",
    ),
    Measure(
        "res_company",
        ("l10n_hu_edi_server_mode",),
        "l10n_hu_edi_server_mode = 'production'",
        "l10n_hu_edi_server_mode = 'test'",
        "companies report invoices to the Hungarian authority",
    ),
    Measure(
        "res_company",
        ("l10n_sa_api_mode",),
        "l10n_sa_api_mode <> 'sandbox'",
        "l10n_sa_api_mode = 'sandbox'",
        "companies report invoices to the Saudi authority",
    ),
    Measure(
        "res_company",
        ("l10n_my_edi_mode",),
        "l10n_my_edi_mode <> 'test'",
        "l10n_my_edi_mode = 'test'",
        "companies report invoices to the Malaysian authority",
    ),
    Measure(
        "res_company",
        ("l10n_hr_mer_connection_mode",),
        "l10n_hr_mer_connection_mode <> 'test'",
        "l10n_hr_mer_connection_mode = 'test'",
        "companies report invoices to the Croatian service",
    ),
    Measure(
        "res_company",
        ("l10n_it_edi_register",),
        "l10n_it_edi_register",
        "l10n_it_edi_register = false",
        "companies report invoices to the Italian authority",
    ),
    Measure(
        "ir_config_parameter",
        ("key", "value"),
        # What is no word but a switch or a number is no secret: `auth_signup.reset_password` says True.
        r"(key ~* '(^|[._])(secret|secret_key|private_key|public_key|api_?key|access_key|sfu_server_key|password|token|"
        r"client_id|vapid_\w+_key)$' OR key ~ '^(cloud_storage_|recaptcha_|cf\.turnstile_)')"
        r" AND key <> 'database.secret' AND value !~* '^(true|false|[0-9.]*|dummy.*)$'",
        None,
        "parameters hold a key or a password",
    ),
    Measure(
        "ir_config_parameter",
        ("key", "value"),
        "key IN ('account_peppol.edi.mode', 'l10n_dk_nemhandel.edi.mode', 'l10n_pl_edi_ksef.mode')"
        " AND value NOT IN ('demo', 'test')",
        "value = CASE key WHEN 'account_peppol.edi.mode' THEN 'demo' ELSE 'test' END",
        "parameters let electronic invoices out",
    ),
)

KEPT_CRON: LiteralString = """
    SELECT cron.id
      FROM ir_cron cron
      JOIN ir_model_data named ON named.res_id = cron.id AND named.model = 'ir.cron'
       AND named.module = 'base' AND named.name = 'autovacuum_job'
      JOIN ir_act_server action ON action.id = cron.ir_actions_server_id
       AND action.state = 'code' AND btrim(action.code, E' \\t\\r\\n') = 'model._run_vacuum_cleaner()'
"""
"""The one job that stays: Odoo's cleaning of its own tables, known by its external name *and* by what it does.

A job's own name says nothing: people rename jobs, and any may be called like this one.
"""
KEPT_CRON_COLUMNS: dict[LiteralString, tuple[LiteralString, ...]] = {
    "ir_cron": ("id", "ir_actions_server_id"),
    "ir_model_data": ("res_id", "model", "module", "name"),
    "ir_act_server": ("id", "state", "code"),
}

TEST_FLAG = r"(^|_)test_(env|environment|mode)$|_staging_mode$|_demo_env$"
"""Columns that, true, keep a connector at its provider's test service."""
PRODUCTION_FLAG = r"(^|_)(production|prod)_(env|environment)$"
FLAG_TABLES = ("res_company", "pos_payment_method", "delivery_carrier", "payment_provider")

_CREDENTIAL = (
    r"secret|passw|passphrase|smtp_pass|token|api_?key|(private|signature|signing|hmac|secret|session|replacement|"
    r"transaction|client|public|publishable|developer|website|license|licence|access|webhook|service|pos|notification)_key"
    r"|access_code|sha_request|sha_response|pspid|_rtoken"
)
CREDENTIALS = {
    "payment_provider": _CREDENTIAL,
    "payment_acquirer": _CREDENTIAL,
    "pos_payment_method": _CREDENTIAL,
    "delivery_carrier": _CREDENTIAL,
    "res_company": _CREDENTIAL,
    # The last two would count who looks at the copy among the visitors of the shop.
    "website": _CREDENTIAL + r"|analytics_key|shared_key",
    "ir_mail_server": _CREDENTIAL,
    "fetchmail_server": _CREDENTIAL,
    "certificate_certificate": r"passw",
    "certificate_key": r"passw",
    # Not what people sign in with: a copy that nobody can enter is of no use.
    "res_users": r"^(google|microsoft)_.*token$",
    "res_users_settings": r"^(google|microsoft)_.*token$",
}
"""Columns that hold what another company lets us in with, by table. They are emptied, whoever made them."""

BANNERS = ("web.neutralize_banner", "website.neutralize_ribbon")
PROVIDER_TABLES = ("payment_provider", "payment_acquirer")

TABLES = frozenset(
    {one.table for one in MEASURES}
    | KEPT_CRON_COLUMNS.keys()
    | CREDENTIALS.keys()
    | set(FLAG_TABLES)
    | {"ir_ui_view", "ir_module_module"}
)
