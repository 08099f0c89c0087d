"""Judges the address of a Git repository and the names used in it before any library sees them. Pure."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from changecontrol.errors import Permanent

_SCP_LIKE = re.compile(r"^(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*):(?P<path>[^-:/][^:]*)$")
_HOST = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]*\Z|^\[?[0-9a-fA-F:]+\]?$")
_USER = re.compile(r"^[A-Za-z0-9_][\w.-]*$")
_SHORT_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._/+@-]*\Z")
_FORBIDDEN_IN_NAMES = ("..", "@{", "//", "\\", "/.", ".lock/")


class Reach(StrEnum):
    """How a repository is reached."""

    HTTPS = "https"
    SSH = "ssh"
    LOCAL = "local"


def judge_url(url: str, *, is_local_allowed: bool) -> Reach:
    """Return how the address is reached. Raises `Permanent` for all but https, ssh and, where allowed, local paths.

    Plain http counts as local: it is accepted on loopback alone, and only where local paths are.
    """
    if not url or url.startswith("-") or any(ord(character) < 33 or ord(character) == 127 for character in url):
        raise Permanent("The address of a Git source must be one word that does not begin with a dash.")
    if "::" in url.split("/", 1)[0]:
        raise Permanent("The address of a Git source names a transport helper, which would run a program.")
    if _SCP_LIKE.match(url):
        return Reach.SSH
    if url.startswith(("/", "file://")):
        return _judge_local(url, is_local_allowed=is_local_allowed)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Permanent("The address of a Git source is not valid.") from None
    if parts.scheme not in ("https", "ssh", "http") or not _HOST.match(host) or len(parts.path) < 2:
        raise Permanent("A Git source is reached by https://host/path or ssh://git@host/path.")
    if parts.query or parts.fragment or parts.path.startswith("/-"):
        raise Permanent("The address of a Git source has no query, fragment or option.")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise Permanent("The address of a Git source holds no credential; name one by reference instead.")
    if parts.scheme == "ssh":
        if parts.username is not None and not _USER.match(parts.username):
            raise Permanent("The user name in the address of the Git source is not valid.")
        return Reach.SSH
    if parts.scheme == "http" and not (is_local_allowed and _is_loopback(host)):
        raise Permanent("A Git source is reached by https, not by plain http.")
    return Reach.HTTPS


def ssh_user(url: str) -> str:
    """Return the user name of an ssh address, `git` where it names none."""
    match = _SCP_LIKE.match(url)
    return match["user"] if match else urlsplit(url).username or "git"


def host_of(url: str) -> str:
    """Return the host, for sentences and to keep credentials to it; the address itself for a local path."""
    match = _SCP_LIKE.match(url)
    return match["host"] if match else urlsplit(url).hostname or "this host"


def check_ref(ref: str) -> str:
    """Return the full name of a ref, or raise `Permanent` where it is not one."""
    if not ref.startswith("refs/") or not is_short_name(ref):
        raise Permanent("A ref is named in full, such as refs/heads/production.")
    return ref


def is_short_name(name: str) -> bool:
    """Say whether this may be a branch, tag or hash: none of the words Git reads as an expression or option."""
    return (
        bool(_SHORT_NAME.match(name))
        and len(name) <= 255
        and not name.endswith(("/", ".", ".lock"))
        and not any(words in name for words in _FORBIDDEN_IN_NAMES)
    )


def check_path(path: str) -> tuple[str, ...]:
    """Return the parts of a path inside the repository; empty for its root. Raises `Permanent` where it leads out."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or "\\" in path or any(part in ("..", ".git") or "\0" in part for part in parts):
        raise Permanent("A path in a Git source is relative and stays inside it.")
    return parts


def _judge_local(url: str, *, is_local_allowed: bool) -> Reach:
    if not is_local_allowed:
        raise Permanent("Git sources on this host's own disk are switched off. Use https or ssh.")
    parts = urlsplit(url)
    path = Path(unquote(parts.path) if parts.scheme == "file" else url)
    if parts.netloc or ".." in path.parts or not path.is_absolute():
        raise Permanent("A local Git source is named by its absolute path.")
    return Reach.LOCAL


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
