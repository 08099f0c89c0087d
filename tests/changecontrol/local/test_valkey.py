from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from changecontrol.project.local.processes import AlreadyRunning, start_time_of
from changecontrol.project.local.valkey import Valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey").start()
    yield server
    server.stop()


def test_it_refuses_new_keys_when_full_rather_than_forget_messages(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("save") == {"save": ""}


def test_nobody_enters_without_the_password(valkey: Valkey) -> None:
    with (
        redis.Redis(host="127.0.0.1", port=valkey.port) as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()


def test_the_password_is_on_no_command_line(valkey: Valkey) -> None:
    password = valkey.url.split(":")[2].split("@")[0]

    assert password.encode() not in Path(f"/proc/{valkey.pid}/cmdline").read_bytes()


def test_flush_forgets_every_key(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "until flushed")

        valkey.flush()

        assert client.dbsize() == 0


def test_restart_keeps_the_address_and_comes_back_empty(valkey: Valkey) -> None:
    url, pid = valkey.url, valkey.pid
    with redis.Redis.from_url(url) as client:
        client.set("kept", "in memory alone")

    valkey.restart()

    assert valkey.url == url
    assert valkey.pid != pid
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() == 0


def test_a_second_start_in_one_folder_is_refused(valkey: Valkey) -> None:
    with pytest.raises(AlreadyRunning, match="Valkey of this folder is already running"):
        Valkey(valkey.folder).start()


def test_a_killed_server_is_started_again_on_the_same_port(valkey: Valkey) -> None:
    port = valkey.port
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    valkey.stop()

    again = Valkey(valkey.folder).start()
    try:
        assert again.port == port
    finally:
        again.stop()


def test_stop_leaves_no_process(valkey: Valkey) -> None:
    pid = valkey.pid
    assert pid is not None

    valkey.stop()

    assert start_time_of(pid) is None
    assert not valkey.is_running()
