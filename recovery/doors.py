"""Opens what a policy names: stores, keys, servers, attachments. References become secrets here and go no further."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings
from psycopg.conninfo import make_conninfo

from changecontrol import wiring
from changecontrol.errors import Permanent
from changecontrol.models import Environment
from changecontrol.ports import ObjectStore, Secrets
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.models.backup import BackupKind
from recovery.models.policy import Engine
from recovery.ports.clusters import DatabaseClusters


def prefix_of(environment: Environment) -> str:
    """Return where everything of an environment lies in its stores."""
    return f"{environment.tenant.slug}/{environment.slug}"


def folder_of(point: RecoveryPoint) -> str:
    """Return where the database of a point lies in its store."""
    kind = "dump" if point.kind == BackupKind.DUMP else "base"
    return f"{prefix_of(point.policy.environment)}/{kind}/{point.key}"


def slot_of(environment: Environment) -> str:
    """Return the replication slot that keeps an environment's WAL on its server until it is archived."""
    return f"changecontrol_{environment.pk}"


def read_secret(reference: str, *, what: str) -> str:
    """Read a secret. Raises `Permanent` naming what the policy lacks where there is no reference."""
    if not reference:
        raise Permanent(f"The backup policy names no {what}.")
    secrets: Secrets = wiring.secrets()
    return secrets.read(reference).strip()


def source_of(policy: BackupPolicy) -> str:
    """Return the address that a policy's backups connect to: its server's, and for dumps the database's own.

    A managed server may let a role into its own database alone. Raises `Permanent` where the environment names none.
    """
    url = read_secret(policy.source, what="database to back up")
    if policy.engine != Engine.PG_DUMP:
        return url
    if not policy.environment.database:
        raise Permanent("The environment names no database: say in the estate which one is its.")
    return url_of(url, database=policy.environment.database)


def open_store(policy: BackupPolicy) -> ObjectStore:
    """Return the primary destination, as whoever writes backups."""
    return store_at(policy.store, credential=policy.store_credential)


def open_copy_store(policy: BackupPolicy) -> ObjectStore:
    """Return the destination of the copies."""
    return store_at(policy.copy_store, credential=policy.copy_credential)


def open_store_to_read(policy: BackupPolicy) -> ObjectStore:
    """Return the primary destination as restores and drills see it: with the credential that cannot write, if named."""
    return store_at(policy.store, credential=policy.restore_credential or policy.store_credential)


def store_at(address: str, *, credential: str) -> ObjectStore:
    """Open a store. `credential` is a reference, or empty; it is read again where the store refuses what it said."""
    opened: ObjectStore = wiring.adapter("object_store")(
        address, credential=credential, secrets=wiring.secrets() if credential else None
    )
    return opened


def open_database_clusters(environment: Environment) -> DatabaseClusters:
    """Return the database clusters that an operator keeps in the Kubernetes cluster of an environment."""
    kubernetes = wiring.adapter("kubernetes")(credential=environment.cluster.credential, secrets=wiring.secrets())
    opened: DatabaseClusters = wiring.adapter("database_clusters")(kubernetes)
    return opened


def identities_of(policy: BackupPolicy) -> Sequence[str]:
    """Return the age identity that opens what was written."""
    return (read_secret(policy.identity, what="identity that opens its backups"),)


def programs_folders() -> Sequence[str]:
    return tuple(settings.POSTGRES_PROGRAMS)


def sandboxes() -> Path:
    """Return the folder of this host in which restores and drills have their folders."""
    folder = Path(settings.RECOVERY_SANDBOXES)
    try:
        # The user whom PostgreSQL runs as passes through, and sees nothing.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise Permanent(f"The folder {folder} for restores cannot be made: {error.strerror}.") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Permanent(f"The folder {folder} for restores is not one that we alone may write to: choose another.")
    return folder


def folder_at(address: str) -> Path:
    """Return the folder that a `file://` address names."""
    parts = urlsplit(address)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise Permanent("A folder is named by file:///path.")
    return Path(unquote(parts.path))


def url_of(url: str, *, database: str) -> str:
    """Return the address of another database of the same server."""
    return make_conninfo(url, dbname=database)
