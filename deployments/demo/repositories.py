"""The demo's Git repositories: bare ones below a folder, with the same commits every time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from deployments.demo.manifests import BROKEN, GOOD, LEAKING, RESTORED, RUNNING, Release, files_of, rehearsal_of
from deployments.demo.retailer import TenantPlan

FIRST_COMMIT_AT = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
AUTHOR = ("Ada", "ada@northwind.example")
BRANCHES = {
    "refs/heads/main": GOOD,
    "refs/heads/broken-image": BROKEN,
    "refs/heads/losing-orders": LEAKING,
    "refs/heads/shop-restored": RESTORED,
}
"""What each branch brings; all of them grow from what runs now."""


def ensure_repository(folder: Path, tenant: TenantPlan) -> Path:
    """Make the tenant's repository where it is missing: what runs now, and a branch for each release."""
    path = folder / f"{tenant.slug}.git"
    if path.exists():
        return path
    # Made under another name first: a killed start leaves nothing half-made behind.
    half_made = folder / f".{tenant.slug}.git"
    repository = pygit2.init_repository(half_made, bare=True, initial_head="main")
    running = _commit(repository, tenant, RUNNING, parents=[], day=0)
    for environment in tenant.environments:
        repository.references.create(f"refs/heads/environments/{environment.slug}", running, force=True)
    for day, (name, release) in enumerate(BRANCHES.items(), 1):
        repository.references.create(name, _commit(repository, tenant, release, parents=[running], day=day), force=True)
    half_made.rename(path)
    return path


def _commit(
    repository: pygit2.Repository, tenant: TenantPlan, release: Release, *, parents: list[pygit2.Oid], day: int
) -> pygit2.Oid:
    environments = {one.slug: _tree(repository, files_of(one, release)) for one in tenant.environments}
    folders = {"environments": _folder(repository, environments)}
    rehearsals = {one.slug: rehearsal_of(one, release) for one in tenant.environments if one.standby_database}
    if rehearsals:
        trees = {slug: _tree(repository, files) for slug, files in rehearsals.items()}
        folders["rehearsals"] = _folder(repository, trees)
    root = _folder(repository, folders)
    when = int((FIRST_COMMIT_AT + timedelta(days=6 * day)).timestamp())
    signature = pygit2.Signature(*AUTHOR, when, 0)
    return repository.create_commit(None, signature, signature, release.summary, root, parents)


def _tree(repository: pygit2.Repository, files: Mapping[str, bytes]) -> pygit2.Oid:
    builder = repository.TreeBuilder()
    for name, data in files.items():
        builder.insert(name, repository.create_blob(data), FileMode.BLOB)
    return builder.write()


def _folder(repository: pygit2.Repository, entries: Mapping[str, pygit2.Oid]) -> pygit2.Oid:
    builder = repository.TreeBuilder()
    for name, tree in entries.items():
        builder.insert(name, tree, FileMode.TREE)
    return builder.write()
