"""Talks to one Git remote through libgit2: lists, fetches, pushes by compare-and-swap, and words its failures.

Credentials are read anew for each connection and offered once, to the host of the address alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pygit2
from pygit2.enums import ConfigLevel, CredentialType, FetchPrune

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import Secrets
from deployments.adapters.git.urls import Reach, host_of, ssh_user

CONNECT_MILLISECONDS = 5_000
# With the connecting, half of the 20 s of a tick, so that a silent server ends as a sentence and not with the worker.
ANSWER_MILLISECONDS = 5_000
MIRRORED = ("refs/heads/", "refs/tags/", "refs/environments/", "refs/changecontrol/")
ZERO = "0" * 40

_STATUS = re.compile(r"status code: (?P<status>\d{3})")
_FULL = ("no space left on device", "disk quota exceeded", "file too large")
_GONE = ("failed to resolve path", "does not exist", "not found", "could not find repository", "not a git repository")

# One server that never answers must not hold a worker, and no user's configuration may send a source elsewhere.
pygit2.settings.server_connect_timeout = CONNECT_MILLISECONDS
pygit2.settings.server_timeout = ANSWER_MILLISECONDS
for _level in (ConfigLevel.GLOBAL, ConfigLevel.XDG, ConfigLevel.SYSTEM):
    pygit2.settings.search_path[_level] = ""


class RefChanged(Exception):
    """Between looking and pushing, the remote's ref moved."""


class Remote:
    """One address with one credential reference."""

    def __init__(
        self, url: str, *, reach: Reach, credential: str, secrets: Secrets | None, guard: Callable[[str], None]
    ) -> None:
        self.url = url
        self.host = host_of(url)
        self._reach = reach
        self._credential = credential
        self._secrets = secrets
        self._guard = guard

    def heads(self, repository: pygit2.Repository) -> dict[str, str]:
        """Return what each ref of the remote names."""
        try:
            heads = self._open(repository).list_heads(callbacks=self._callbacks())
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise self._failure(error, doing="list its refs") from None
        return {str(head.name): str(head.oid) for head in heads}

    def secret(self) -> str | None:
        """Return what the credential reference leads to, or None where there is none."""
        if not self._credential:
            return None
        if self._secrets is None:
            raise Permanent("The credential of this Git source cannot be read here.")
        return self._secrets.read(self._credential)

    def fetch(self, repository: pygit2.Repository, *, progress: Callable[[int], None] | None = None) -> None:
        """Bring every mirrored ref up to date and drop those the remote dropped. `progress` is told bytes received."""
        specs = [f"+{prefix}*:{prefix}*" for prefix in MIRRORED]
        callbacks = self._callbacks()
        callbacks.progress = progress
        try:
            self._open(repository).fetch(refspecs=specs, callbacks=callbacks, prune=FetchPrune.PRUNE)
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise self._failure(error, doing="send its commits") from None

    def push(self, repository: pygit2.Repository, *, ref: str, sha: str, expected: str | None) -> None:
        """Move the remote's ref from `expected` to `sha`, or raise `RefChanged` where it names something else."""
        # libgit2 pushes refs, not hashes: the commit gets a name for as long as the push takes.
        handle = f"refs/changecontrol-push/{sha}"
        repository.references.create(handle, pygit2.Oid(hex=sha), force=True)
        callbacks = self._callbacks()
        callbacks.swap = (expected or ZERO, sha)
        try:
            self._open(repository).push([f"+{handle}:{ref}"], callbacks=callbacks)
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise self._failure(error, doing=f"move {ref}") from None
        finally:
            repository.references.delete(handle)
        if callbacks.refusal is not None:
            raise Permanent(f"The Git server at {self.host} refused to move {ref}: {callbacks.refusal[:300]}")

    def _open(self, repository: pygit2.Repository) -> pygit2.Remote:
        """Return the remote, having looked where its name leads now; the server may not lead on from there."""
        if self._reach is not Reach.LOCAL:
            self._guard(self.host)
        if "http.followRedirects" not in repository.config:
            repository.config["http.followRedirects"] = False
        return repository.remotes.create_anonymous(self.url)

    def _callbacks(self) -> _Callbacks:
        return _Callbacks(self._read_credential() if self._credential else None, host=self.host)

    def _read_credential(self) -> pygit2.UserPass | pygit2.KeypairFromMemory:
        if self._secrets is None or self._reach is Reach.LOCAL:
            raise Permanent("A local Git source takes no credential.")
        secret = (self.secret() or "").strip()
        is_key = secret.startswith("-----BEGIN ")
        if self._reach is Reach.SSH:
            if not is_key:
                raise Permanent("The credential of an ssh Git source is a private key.")
            return pygit2.KeypairFromMemory(ssh_user(self.url), "", secret + "\n", "")
        if is_key or not secret or any(character.isspace() for character in secret):
            raise Permanent("The credential of an https Git source is a token, or user:token.")
        user, separator, token = secret.partition(":")
        return pygit2.UserPass(user, token) if separator else pygit2.UserPass("changecontrol", secret)

    def _failure(self, error: BaseException, *, doing: str) -> Transient | Permanent:
        """Word a failure by what it is; libgit2's own text is not shown, as it may quote addresses and headers."""
        text = str(error).lower()
        if any(words in text for words in _FULL):
            return Transient("The mirror of a Git source cannot be written: this worker's disk is full.")
        status = _STATUS.search(text)
        if isinstance(error, pygit2.AuthError) or "authentication" in text or (status and status["status"] == "401"):
            return Permanent(
                f"The Git server at {self.host} does not accept this credential. Renew it where it is kept."
            )
        if isinstance(error, pygit2.CertificateError) or "certificate" in text or "hostkey" in text:
            return Permanent(
                f"The Git server at {self.host} shows a host key that is not in ~/.ssh/known_hosts of this worker."
                if self._reach is Reach.SSH
                else f"The Git server at {self.host} shows a certificate that is not trusted here."
            )
        if "redirect" in text:
            return Permanent(f"The Git server at {self.host} leads elsewhere. Name the source by where it really is.")
        if status and status["status"] == "403":
            return Permanent(f"The Git server at {self.host} does not let this credential {doing}.")
        if (status and status["status"] == "404") or any(words in text for words in _GONE):
            return Permanent(f"The Git server at {self.host} has no such repository, or hides it from this credential.")
        if status and status["status"].startswith("4") and status["status"] not in ("408", "429"):
            return Permanent(f"The Git server at {self.host} refused to {doing} (HTTP {status['status']}).")
        return Transient(f"The Git server at {self.host} could not be reached, or did not {doing} in time.")


class _Callbacks(pygit2.RemoteCallbacks):
    """Offers the credential once, to one host; compares before it swaps; keeps what the server refused."""

    def __init__(self, credential: pygit2.UserPass | pygit2.KeypairFromMemory | None, *, host: str) -> None:
        super().__init__()
        self._credential = credential
        self._host = host
        self._is_offered = False
        self.swap: tuple[str, str] | None = None
        self.refusal: str | None = None
        self.progress: Callable[[int], None] | None = None

    def transfer_progress(self, stats: pygit2.remotes.TransferProgress) -> None:
        if self.progress is not None:
            self.progress(stats.received_bytes)

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.UserPass | pygit2.KeypairFromMemory | pygit2.Username:
        if self._credential is None:
            raise pygit2.AuthError("authentication required")
        if isinstance(self._credential, pygit2.KeypairFromMemory) and allowed_types & CredentialType.USERNAME:
            return pygit2.Username(self._credential.credential_tuple[0])
        # Asked a second time means refused the first time; a redirect must not carry the token to another host.
        if self._is_offered or ("://" in url and urlsplit(url).hostname != self._host):
            raise pygit2.AuthError("authentication refused")
        self._is_offered = True
        return self._credential

    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:
        # Without this, pygit2 lets every ssh host key pass. libgit2 has compared it with ~/.ssh/known_hosts by now.
        return valid

    def push_negotiation(self, updates: list[pygit2.remotes.PushUpdate]) -> None:
        # The server compares with what it told at the start of this very connection; so do we, against what was asked.
        for update in updates:
            if self.swap is not None and (str(update.src), str(update.dst)) != self.swap:
                raise RefChanged

    def push_update_reference(self, refname: str, message: str | None) -> None:
        if message is not None:
            self.refusal = message
