from __future__ import annotations

import socket
from pathlib import Path

import pytest

from changecontrol.errors import Permanent, Transient
from deployments.adapters.git import open_repository
from deployments.adapters.git.hosts import check_host

INTERNAL = [
    "169.254.169.254",  # the metadata service of most clouds
    "fe80::1%1",
    "fd00:ec2::254",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "[::1]",
    "::ffff:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "0.0.0.0",
    "224.0.0.1",
    "2130706433",
    "0x7f.1",
    "127.1",
    "localhost",
    "LOCALHOST.",
]


@pytest.mark.parametrize("host", INTERNAL)
def test_an_internal_address_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(Permanent, match="internal address"):
        check_host(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]"])
def test_a_public_address_is_allowed(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    "host, allowed",
    [
        ("10.1.2.3", ["10.0.0.0/8"]),
        ("fd00::7", ["fd00::/8"]),
        ("git.corp.example", ["git.corp.example"]),
        ("Git.Corp.Example", ["*.corp.example"]),
        ("10.1.2.3", ["10.1.2.3"]),
    ],
)
def test_what_the_operator_names_is_allowed_and_a_name_is_not_looked_up(host: str, allowed: list[str]) -> None:
    check_host(host, allowed=allowed)


@pytest.mark.parametrize("allowed", [["10.0.0.0/16"], ["*.corp.example"], ["1.2.3"]])
def test_what_the_operator_names_allows_nothing_else(allowed: list[str]) -> None:
    with pytest.raises(Permanent):
        check_host("10.1.2.3", allowed=allowed)


def test_loopback_alone_comes_with_local_paths() -> None:
    check_host("127.0.0.1", is_loopback_allowed=True)

    with pytest.raises(Permanent):
        check_host("169.254.169.254", is_loopback_allowed=True)


def test_a_name_that_cannot_be_looked_up_may_be_known_later() -> None:
    with pytest.raises(Transient):
        check_host("no such name")


@pytest.mark.parametrize("scheme", ["https://127.0.0.1:{}/estate.git", "ssh://git@127.0.0.1:{}/estate.git"])
def test_nothing_is_sent_to_a_host_that_is_refused(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        source = open_repository(url=scheme.format(server.getsockname()[1]), mirror=tmp_path / "mirror")

        with pytest.raises(Permanent, match="internal address"):
            source.ensure_fetched()

        with pytest.raises(BlockingIOError):
            server.accept()
