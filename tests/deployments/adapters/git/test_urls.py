from __future__ import annotations

import pytest

from changecontrol.errors import Permanent
from deployments.adapters.git.urls import Reach, check_path, check_ref, host_of, is_short_name, judge_url, ssh_user


@pytest.mark.parametrize(
    ("url", "reach"),
    [
        ("https://git.example/acme/estate.git", Reach.HTTPS),
        ("https://git.example:8443/acme/estate", Reach.HTTPS),
        ("ssh://git@git.example:2222/acme/estate.git", Reach.SSH),
        ("git@git.example:acme/estate.git", Reach.SSH),
        ("/srv/git/estate.git", Reach.LOCAL),
        ("file:///srv/git/estate.git", Reach.LOCAL),
        ("http://127.0.0.1:3000/estate.git", Reach.HTTPS),
    ],
)
def test_addresses_that_are_accepted(url: str, reach: Reach) -> None:
    assert judge_url(url, is_local_allowed=True) is reach


@pytest.mark.parametrize(
    "url",
    [
        "",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "ext::sh -c touch% /tmp/x",
        "ssh://-oProxyCommand=x/estate",
        "ssh://git@-oProxyCommand=x/estate",
        "ssh://-x@host/estate",
        "git@host:-x",
        "-x@host:estate",
        "ssh://git@host/-x",
        "git://host/estate",
        "ftp://host/estate",
        "http://git.example/estate",
        "https://user:canary@git.example/estate",
        "https://canary@git.example/estate",
        "https://git.example/estate?x=1",
        "https://git.example",
        "https://git.example/a\nb",
        "https://git.example/a b",
        "https://git.example:99999999/x",
        "file://host/estate",
        "/srv/../etc",
        "../estate",
        "estate",
    ],
)
def test_other_addresses_are_refused_without_quoting_them(url: str) -> None:
    with pytest.raises(Permanent) as refusal:
        judge_url(url, is_local_allowed=True)

    assert "canary" not in refusal.value.reason


@pytest.mark.parametrize("url", ["/srv/git/estate.git", "file:///srv/git/estate.git", "http://127.0.0.1/estate.git"])
def test_local_addresses_need_the_setting(url: str) -> None:
    with pytest.raises(Permanent):
        judge_url(url, is_local_allowed=False)


def test_host_and_user_are_taken_from_both_ssh_forms() -> None:
    assert [host_of(url) for url in ("git@a.example:x", "ssh://b.example/x", "/srv/x")] == [
        "a.example",
        "b.example",
        "this host",
    ]
    assert [ssh_user(url) for url in ("bot@a.example:x", "ssh://b.example/x")] == ["bot", "git"]


@pytest.mark.parametrize("name", ["main", "release/17.0", "v1.2.3", "a" * 40, "refs/heads/main", "ada@work"])
def test_names_of_revisions(name: str) -> None:
    assert is_short_name(name)


@pytest.mark.parametrize(
    "name", ["", "-x", "main~1", "main^", "a..b", "@{-1}", "main@{1}", ":/fix", "a b", "x.lock", "a//b", "a/", "a\n"]
)
def test_expressions_are_no_names(name: str) -> None:
    assert not is_short_name(name)


def test_refs_are_named_in_full() -> None:
    assert check_ref("refs/environments/acme/production") == "refs/environments/acme/production"
    for ref in ("main", "refs/heads/a..b", "refs/heads/-x y"):
        with pytest.raises(Permanent, match="named in full"):
            check_ref(ref)


def test_paths_stay_inside() -> None:
    assert [check_path(path) for path in ("", ".", "acme/production/", "./a")] == [
        (),
        (),
        ("acme", "production"),
        ("a",),
    ]
    for path in ("/etc", "a/../../b", ".git/config", "a\\b"):
        with pytest.raises(Permanent, match="relative and stays inside"):
            check_path(path)
