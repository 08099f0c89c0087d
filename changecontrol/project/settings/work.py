"""Celery, workflows, adapters, mail, objects."""

from __future__ import annotations

from urllib.parse import urlsplit

from changecontrol.project import env
from changecontrol.project.settings.base import BASE_DIR, DEMO

CELERY_BROKER_URL = env.text("REDIS_URL")
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # messages are hints: a lost one costs a sweep, a repeated one finds its lease taken
CELERY_TASK_SOFT_TIME_LIMIT = 20
CELERY_TASK_TIME_LIMIT = 30
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2}
CELERY_TIMEZONE = "UTC"
WORKERS_PER_CLUSTER = env.whole_number("WORKERS_PER_CLUSTER", 2)
"""The most workers busy with targets of one cluster. Have more workers than this: then a slow one holds up no other."""
SWEEP_SECONDS = env.whole_number("SWEEP_SECONDS", 10)
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "changecontrol.tasks.sweep",
        "schedule": float(SWEEP_SECONDS),
        "options": {"expires": SWEEP_SECONDS},
    },
}

WORKFLOWS = [
    "changecontrol.workflow.delivery.Delivery",
    "recovery.workflows.backup.Backup",
    "recovery.workflows.restore.RestoreRun",
    "recovery.workflows.cut_over.CutOverWork",
    "recovery.workflows.drill.DrillRun",
    "recovery.workflows.upkeep.UpkeepWork",
    "deployments.workflows.assessment.Assessment",
    "deployments.workflows.rollout.RolloutRun",
    "deployments.workflows.target.TargetUpdate",
    "deployments.workflows.rehearsal.RehearsalRun",
    "recovery.workflows.alarms.AlarmWork",
]
"""The workflows a sweep looks after, in order. `changecontrol` finds them here and knows none by name."""

JOBS = {
    "adopt": "recovery.jobs.adopting.adopt",
    "attachments": "recovery.jobs.attachments.copy_attachments",
    "backup": "recovery.jobs.backup.back_up",
    "compare": "recovery.jobs.comparing.compare",
    "dump": "recovery.jobs.dump.dump_point",
    "cluster_backup": "recovery.jobs.cluster_backup.complete_point",
    "copy": "recovery.jobs.elsewhere.copy_onward",
    "drill": "recovery.jobs.drill.practise",
    "drill_clearing": "recovery.jobs.rehearsal.clear_copy",
    "drill_elsewhere": "recovery.jobs.rehearsal.question_copy",
    "drill_place": "recovery.jobs.rehearsal.check_before",
    "remove": "recovery.jobs.removal.remove",
    "restore": "recovery.jobs.restore.bring_back",
}
"""What does each kind of job, by dotted path: called with its order and a place to say how far it is."""

JOB_MEMORY_MIB = env.whole_number("JOB_MEMORY_MIB", 4096)
"""The most memory of a job's process and all that it starts; 0: no limit."""
JOB_DISK_GIB = env.whole_number("JOB_DISK_GIB", 0)
"""The most disk of a job's sandbox; 0: as much as there is."""

JOBS_IN_KUBERNETES = env.words("JOBS_IN_KUBERNETES")
"""The kinds of jobs that are done as Jobs of a Kubernetes cluster; all others by hosts that run `manage.py jobs`."""
JOBS_CLUSTER = env.text("JOBS_CLUSTER", "")
"""A reference to the kubeconfig of that cluster, such as `file:/run/references/jobs.kubeconfig`."""
JOBS_NAMESPACE = env.text("JOBS_NAMESPACE", "")
JOBS_IMAGE = env.text("JOBS_IMAGE", "")
"""The image of this program, best by digest."""
JOBS_SERVICE_ACCOUNT = env.text("JOBS_SERVICE_ACCOUNT", "changecontrol-job")
JOBS_SECRET = env.text("JOBS_SECRET", "")
"""The Secret there that holds the settings of this installation as variables."""
JOBS_REFERENCES = env.text("JOBS_REFERENCES", "")
"""The Secret there whose keys are the files below /run/references; empty: none."""
JOBS_CPU = env.text("JOBS_CPU", "2")

ADAPTERS = {
    "kubernetes": env.text("KUBERNETES_ADAPTER", "changecontrol.adapters.kubernetes.open_cluster"),
    "object_store": env.text("OBJECT_STORE_ADAPTER", "changecontrol.adapters.object_store.open_store"),
    "secrets": env.text("SECRETS_ADAPTER", "changecontrol.adapters.secrets.open_secrets"),
    "git": env.text("GIT_ADAPTER", "deployments.adapters.git.open_repository"),
    "signer": env.text("SIGNER_ADAPTER", "changecontrol.adapters.signing.open_signer"),
    "pdf": env.text("PDF_ADAPTER", "changecontrol.adapters.pdf.print_pdf"),
    "jobs_here": env.text("JOBS_HERE_ADAPTER", "changecontrol.adapters.jobs.open_here"),
    "jobs_in_kubernetes": env.text("JOBS_IN_KUBERNETES_ADAPTER", "changecontrol.adapters.jobs.open_cluster"),
    "database_clusters": env.text("DATABASE_CLUSTERS_ADAPTER", "recovery.adapters.cloudnativepg.open_clusters"),
    "indicators": env.text("INDICATORS_ADAPTER", "deployments.adapters.prometheus.open_indicators"),
}
"""Which callable answers each port, by dotted path (see `changecontrol.wiring`)."""

VAULT = {
    "address": env.text("VAULT_ADDR", ""),
    "authority": env.text("VAULT_CACERT", ""),
    "namespace": env.text("VAULT_NAMESPACE", ""),
    "token_file": env.text("VAULT_TOKEN_PATH", ""),
    "role_id": env.text("VAULT_ROLE_ID", ""),
    "secret_id_file": env.text("VAULT_SECRET_ID_PATH", ""),
    "kubernetes_role": env.text("VAULT_KUBERNETES_ROLE", ""),
}
"""The OpenBao or Vault server that `vault:path#field` names, and how to sign in: by token, AppRole or service account.

Token and secret id are files, read anew each time, so that an agent beside the worker may renew them."""

OBJECT_STORE_URL = env.text("OBJECT_STORE_URL", f"file://{BASE_DIR}/.local/objects")
GIT_MIRRORS = env.text("GIT_MIRRORS", str(BASE_DIR / ".local" / "mirrors"))
GIT_LOCAL_PATHS_ALLOWED = env.flag("GIT_LOCAL_PATHS_ALLOWED", default=DEMO)
GIT_HOSTS = env.words("GIT_HOSTS")
"""Git servers allowed at internal addresses: names, patterns (`*.corp.example`) and networks (`10.20.0.0/16`)."""
EVIDENCE_SIGNING_KEY = env.text("EVIDENCE_SIGNING_KEY", "")
"""A reference to an Ed25519 private key in PEM, such as `file:/run/secrets/evidence.pem`."""
KUSTOMIZE_COMMAND = env.words("KUSTOMIZE_COMMAND")
"""The program that renders a kustomization, its words comma-separated: `kubectl,kustomize`. Empty: refused."""

RECOVERY_SANDBOXES = env.text("RECOVERY_SANDBOXES", "/var/tmp/changecontrol")  # noqa: S108  made private, by run id
"""The folder in which restores and drills have theirs: as large as the largest database twice, its path short."""
WAL_FOLDERS = env.text("WAL_FOLDERS", str(BASE_DIR / ".local" / "wal"))
"""The folder in which `archive_wal` keeps what it received until the store has it, one folder an environment."""
WAL_RETAINED_PERCENT = env.whole_number("WAL_RETAINED_PERCENT", 50)
"""WAL that a server keeps for our slot alarms from this part of its own limit (`max_slot_wal_keep_size`) on."""
WAL_RETAINED_BYTES = env.whole_number("WAL_RETAINED_BYTES", 1024**3)
"""The same on a server without a limit."""
WAL_SLOT_IDLE_SECONDS = env.whole_number("WAL_SLOT_IDLE_SECONDS", 600)
"""How long nothing may receive WAL by a slot before it alarms."""
ODOO_COMMAND = env.words("ODOO_COMMAND")
"""The program that neutralises and boots restored copies, its words comma-separated: `/usr/bin/odoo`. Empty: none."""
ODOO_ADDONS = env.words("ODOO_ADDONS")
"""Folders of addons besides Odoo's own that those copies need."""

POSTGRES_PROGRAMS = env.words("POSTGRES_PROGRAMS")
"""Folders of PostgreSQL's programs besides the usual ones; `{major}` stands for the server's version."""

EVIDENCE_CONTRIBUTORS = ["deployments.queries.evidence.contribute", "recovery.queries.reports.contribute"]
FIGURE_CONTRIBUTORS = ["recovery.queries.figures.contribute"]
"""What each app adds to /metrics: called with the time, each yields `changecontrol.figures.Figure`."""
HOME_CONTRIBUTORS = ["recovery.queries.home.notices"]
"""What each app adds to the alarms of the home page: called with the scope and the time, each returns notices."""
GATES = "deployments.gates.GATES"
BACKUP_POLICY_REQUIRED = env.flag("BACKUP_POLICY_REQUIRED", default=not DEMO)
"""Whether no deployment reaches a production environment that has no backup policy. The demo's are practice."""
INDICATORS = "deployments.rules.indicators.CATALOGUE"
"""What a change may have watched during its rollout, by key; the form of a change offers these."""

METRICS_TOKEN = env.text("METRICS_TOKEN", "")
"""The bearer token of whoever scrapes /metrics from elsewhere than loopback; empty: loopback alone."""

_mail = urlsplit(env.text("EMAIL_URL", "console://"))
EMAIL_BACKEND = {
    "smtp": "django.core.mail.backends.smtp.EmailBackend",
    "smtps": "django.core.mail.backends.smtp.EmailBackend",
    "file": "django.core.mail.backends.filebased.EmailBackend",
    "memory": "django.core.mail.backends.locmem.EmailBackend",
    "console": "django.core.mail.backends.console.EmailBackend",
}[_mail.scheme]
EMAIL_FILE_PATH = _mail.path if _mail.scheme == "file" else None
EMAIL_HOST = _mail.hostname or "127.0.0.1"
EMAIL_PORT = _mail.port or 25
EMAIL_HOST_USER = _mail.username or ""
EMAIL_HOST_PASSWORD = _mail.password or ""
EMAIL_USE_TLS = _mail.scheme == "smtps"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("MAIL_FROM", "changecontrol@localhost")
