"""Git sources behind the `GitRepository` port, by libgit2. Settings name `open_repository` by its dotted path."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from changecontrol.ports import Secrets
from deployments.adapters.git import fetching
from deployments.adapters.git.hosts import check_host
from deployments.adapters.git.remote import Remote
from deployments.adapters.git.repository import MirroredRepository
from deployments.adapters.git.urls import Reach, judge_url

DEFAULT_EMAIL = "changecontrol@localhost"


def open_repository(
    *,
    url: str,
    mirror: Path,
    credential: str = "",
    secrets: Secrets | None = None,
    is_local_allowed: bool = False,
    hosts: Sequence[str] = (),
    author_email: str = DEFAULT_EMAIL,
) -> MirroredRepository:
    """Return the repository at an https, ssh or (where allowed) local address, mirrored in the folder `mirror`.

    `credential` is a reference to a token, `user:token`, or a private ssh key; `hosts` are those allowed at internal
    addresses. Nothing is fetched yet.
    Raises `Permanent` for an address that is not accepted.
    """
    reach = judge_url(url, is_local_allowed=is_local_allowed)
    guard = partial(check_host, allowed=hosts, is_loopback_allowed=is_local_allowed)
    remote = Remote(url, reach=reach, credential=credential, secrets=secrets, guard=guard)

    def fetch_elsewhere(since: datetime | None) -> None:
        order = fetching.Order(
            url=url,
            mirror=str(mirror),
            secret=remote.secret(),
            is_local_allowed=is_local_allowed,
            hosts=tuple(hosts),
        )
        fetching.fetch(order, since=since)

    # What is on this machine is there at once; a process for each look would take longer.
    is_near = reach is Reach.LOCAL
    return MirroredRepository(
        remote, mirror=mirror, author_email=author_email, fetch_elsewhere=None if is_near else fetch_elsewhere
    )
