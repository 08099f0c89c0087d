"""A store that answers 403, 500, slowly, short, or not at all: a server behind a proxy that plays these tricks.

What is written then is whole or not there; what is read is what was written, or a sentence.
"""

from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from recovery.adapters.filestore import StoredFilestores
from recovery.adapters.streams import StreamReader, StreamWriter, leftovers, observe_stream, verify_stream
from tests.recovery.adapters.filestore.scene import AT, OWNER, WORKER, Filestore
from tests.recovery.proof.test_trouble import FAR
from tests.stores import LOCAL_KINDS, Place, place

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PART_BYTES = 100_000
UPLOAD = f"""
import os
import sys
from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from recovery.adapters.streams import StreamWriter
secrets = FakeSecrets({{"env:SECRET": os.environ["SECRET"]}})
store = open_store(os.environ["STORE"], credential="env:SECRET", secrets=secrets)
with StreamWriter(store, sys.argv[1], part_bytes={PART_BYTES}) as writer:
    print("begins", flush=True)
    for number in range(1000):
        writer.write(bytes({PART_BYTES}))
"""
DATA = random.Random(5).randbytes(12 * PART_BYTES + 77)


@dataclass
class Tricks:
    """What the proxy does instead of what it is asked: of each kind, how often yet. `chance` decides which request."""

    chance: random.Random
    left: dict[str, int] = field(default_factory=dict)
    share: float = 0.5
    played: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str) -> str:
        with self._lock:
            kinds = [kind for kind, left in self.left.items() if left and (kind != "short" or method == "GET")]
            if not kinds or self.chance.random() > self.share:
                return ""
            kind = self.chance.choice(kinds)
            self.left[kind] -= 1
            self.played += 1
            return kind


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint: str, tricks: Tricks) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        parts = urlsplit(endpoint)
        self.host = parts.netloc
        self.url = f"http://127.0.0.1:{self.server_address[1]}{parts.path}"
        self.tricks = tricks

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone: that is what is played here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trick = self.server.tricks.next(self.command)
        if trick in ("403", "500"):
            code = "AccessDenied" if trick == "403" else "InternalError"
            return self._answer(int(trick), f"<Error><Code>{code}</Code></Error>".encode())
        if trick == "cut before":
            return self._cut()
        if trick == "slow":
            time.sleep(0.3)
        status, headers, content = self._forwarded(body)
        if trick == "cut after":
            return self._cut()
        return self._answer(status, content, headers=headers, is_short=trick == "short")

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        with closing(http.client.HTTPConnection(self.server.host, timeout=30)) as upstream:
            # With the host that the client signed, which is ours.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_any  # noqa: N815

    def _answer(
        self,
        status: int,
        content: bytes,
        *,
        headers: list[tuple[str, str]] | None = None,
        is_short: bool = False,
    ) -> None:
        self.send_response_only(status)
        # The answer to HEAD has the length of what it does not send.
        lengths = () if self.command == "HEAD" else ("content-length",)
        for name, value in headers or []:
            if name.lower() not in (*HOP, *lengths):
                self.send_header(name, value)
        if lengths:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if is_short else content)
        if is_short:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


HOP = ("connection", "transfer-encoding", "keep-alive")


@pytest.fixture
def tricks(chance: random.Random) -> Tricks:
    return Tricks(chance)


@pytest.fixture(scope="module", params=LOCAL_KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(request.param, tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def stores(server: Place, tricks: Tricks) -> Iterator[tuple[ObjectStore, ObjectStore]]:
    """Return the store as it is, and through the proxy."""
    proxy = Proxy(server.endpoint, tricks)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    prefix = uuid.uuid4().hex
    yield server.open(prefix=prefix), server.open(prefix=prefix, endpoint=proxy.url)
    proxy.shutdown()
    proxy.server_close()
    thread.join()


def write(store: ObjectStore, key: str = "points/1/base") -> None:
    with StreamWriter(store, key, part_bytes=PART_BYTES, sleep=lambda _: None) as writer:
        for start in range(0, len(DATA), 30_000):
            writer.write(DATA[start : start + 30_000])


@pytest.mark.parametrize("kind", ["500", "slow", "cut before", "cut after"])
def test_stream_is_whole_although_the_store_stumbles(
    stores: tuple[ObjectStore, ObjectStore], tricks: Tricks, kind: str
) -> None:
    plain, bad = stores
    tricks.left = {kind: 12}

    write(bad)

    assert tricks.played > 3
    assert StreamReader(plain, "points/1/base").readall() == DATA
    assert list(leftovers(plain, "points", before=FAR)) == []


@pytest.mark.parametrize("kind", ["500", "slow", "short", "cut before"])
def test_stream_is_read_as_it_was_written_although_the_store_stumbles(
    stores: tuple[ObjectStore, ObjectStore], tricks: Tricks, kind: str
) -> None:
    plain, bad = stores
    write(plain)
    tricks.left, tricks.share = {kind: 6}, 0.3

    assert StreamReader(bad, "points/1/base").readall() == DATA
    assert verify_stream(bad, "points/1/base").size == len(DATA)
    assert tricks.played > 1


@pytest.mark.parametrize("kind", ["403", "500"])
def test_store_that_stays_that_way_is_a_sentence_and_nothing_is_half_visible(
    stores: tuple[ObjectStore, ObjectStore], tricks: Tricks, kind: str
) -> None:
    plain, bad = stores
    write(plain, "points/2/base")
    tricks.left = {kind: 10**6}
    tricks.share = 0.0
    stopping = threading.Timer(0.05, setattr, (tricks, "share", 1.0))
    stopping.start()
    # A part is stored, then its stream's parts are listed: it stops at whichever request is next.
    expected = {
        "403": (Permanent, "does not let this credential (store|list|read) many/"),
        "500": (Transient, "could not (store|list|read) many/"),
    }[kind]

    with pytest.raises(expected[0], match=expected[1]):
        for number in range(1000):
            write(bad, f"many/{number}/base")
    tricks.share = 0.0
    stopping.join()

    broken = f"many/{number}/base"
    with pytest.raises(Permanent, match="There is no object"):
        observe_stream(plain, broken)
    parts = {found.key for found in plain.observe_objects(f"{broken}.parts")}
    assert set(leftovers(plain, broken.rpartition("/")[0], before=FAR)) == parts
    assert StreamReader(plain, "points/2/base").readall() == DATA
    write(bad, broken)
    assert verify_stream(plain, broken).size == len(DATA)


def test_reading_what_may_not_be_read_is_a_sentence(stores: tuple[ObjectStore, ObjectStore], tricks: Tricks) -> None:
    plain, bad = stores
    write(plain)
    tricks.left, tricks.share = {"403": 10**6}, 1.0

    with pytest.raises(Permanent, match="does not let this credential read points/1/base"):
        StreamReader(bad, "points/1/base")


def test_upload_that_is_killed_is_not_there_and_what_it_left_is_cleared(server: Place, chance: random.Random) -> None:
    prefix = uuid.uuid4().hex
    found = server.open(prefix=prefix)
    environment = os.environ | {"STORE": server.address(prefix=prefix), "SECRET": server.writer}
    whole = []

    for number in range(4):
        words = [sys.executable, "-c", UPLOAD, f"points/{number}/base"]
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            time.sleep(chance.uniform(0.0, 0.4))
            process.kill()
        with suppress(Permanent):
            whole.append(observe_stream(found, f"points/{number}/base").key)

    assert len(whole) < 4
    assert all(verify_stream(found, key).size == 1000 * PART_BYTES for key in whole)
    # What was on its way may arrive after whoever sent it is gone: those who clear for real wait two days.
    left, seen = list(leftovers(found, "points", before=FAR)), None
    while left != seen:
        time.sleep(0.5)
        left, seen = list(leftovers(found, "points", before=FAR)), left
    for key in left:
        found.ensure_absent(key)
    assert list(leftovers(found, "points", before=FAR)) == []
    assert sum(one.key.endswith("/base") for one in found.observe_objects("points")) == len(whole)
    for number in range(4):
        if f"points/{number}/base" not in whole:
            write(found, f"points/{number}/base")
            assert StreamReader(found, f"points/{number}/base").readall() == DATA


def test_filestore_is_copied_and_read_although_the_store_stumbles(
    stores: tuple[ObjectStore, ObjectStore], tricks: Tricks, tmp_path: Path
) -> None:
    plain, bad = stores
    filestore = Filestore(tmp_path / "filestore", random=tricks.chance)
    names = filestore.grow(600)

    def archive(store: ObjectStore) -> StoredFilestores:
        return StoredFilestores(
            store, prefix="acme/production", recipients=[OWNER.recipient], index_identity=WORKER.identity
        )

    def patiently(act: Callable[[], object]) -> object:
        """Do as a job does, which is begun anew where the store is away."""
        for _ in range(50):
            with suppress(Transient):
                return act()
        raise AssertionError("the store never answered")

    tricks.left = dict.fromkeys(["500", "slow", "cut before", "cut after", "short"], 8)
    patiently(lambda: archive(bad).ensure_copy(point="p1", source=filestore.source, at=AT))
    tricks.left = dict.fromkeys(["500", "slow", "cut before", "short"], 3)
    point = archive(plain).ensure_copy(point="p1", source=filestore.source, at=AT).point
    damage = patiently(lambda: archive(bad).observe_damage(point))
    patiently(
        lambda: archive(bad).ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity, named=names)
    )

    assert tricks.played > 1
    assert damage == ()
    for name, content in filestore.files.items():
        assert (tmp_path / "new" / name).read_bytes() == content
