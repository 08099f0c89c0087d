"""The demo's Git repositories: the same commits every time, each branch one release beyond what runs."""

from __future__ import annotations

from pathlib import Path

import pygit2
import yaml

from deployments.demo.manifests import BROKEN, GOOD, LEAKING, RUNNING
from deployments.demo.repositories import BRANCHES, ensure_repository
from deployments.demo.retailer import TENANTS

NORTHWIND = TENANTS[0]


def refs_of(path: Path) -> dict[str, str]:
    repository = pygit2.Repository(str(path))
    return {name: str(repository.references[name].peel().id) for name in repository.references}


def images_in(path: Path, ref: str, environment: str) -> set[str]:
    repository = pygit2.Repository(str(path))
    tree = repository.references[ref].peel(pygit2.Commit).tree[f"environments/{environment}"]
    assert isinstance(tree, pygit2.Tree)
    documents = [one for file in tree if isinstance(file, pygit2.Blob) for one in yaml.safe_load_all(file.data)]
    return {
        container["image"]
        for one in documents
        if one["kind"] == "Deployment"
        for container in one["spec"]["template"]["spec"]["containers"]
    }


def test_repositories_have_the_same_commits_wherever_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    first = refs_of(ensure_repository(tmp_path / "one", NORTHWIND))
    second = refs_of(ensure_repository(tmp_path / "two", NORTHWIND))

    assert first == second
    assert set(first) == {*BRANCHES, *(f"refs/heads/environments/{one.slug}" for one in NORTHWIND.environments)}


def test_every_branch_brings_its_release_and_environments_name_what_runs(tmp_path: Path) -> None:
    # GIT-2
    path = ensure_repository(tmp_path, NORTHWIND)

    assert images_in(path, "refs/heads/environments/nw-pilot", "nw-pilot") == {RUNNING.image}
    assert images_in(path, "refs/heads/main", "nw-pilot") == {GOOD.image}
    assert images_in(path, "refs/heads/broken-image", "nw-pilot") == {BROKEN.image}
    assert images_in(path, "refs/heads/losing-orders", "nw-pilot") == {LEAKING.image}


def test_the_shop_is_rehearsed_as_it_runs_on_a_copy_of_its_own_name(tmp_path: Path) -> None:
    # BCK-5
    path = ensure_repository(tmp_path, NORTHWIND)
    repository = pygit2.Repository(str(path))
    for ref in BRANCHES:
        tree = repository.references[ref].peel(pygit2.Commit).tree
        there, copy = (
            b"".join(tree[f"{folder}/nw-shop/{name}"].read_raw() for name in ("office.yaml", "shared.yaml"))
            for folder in ("environments", "rehearsals")
        )

        database = b"nw_shop_restored" if ref == "refs/heads/shop-restored" else b"nw_shop"
        assert copy == there.replace(b"db_name: " + database, b"db_name: nw_shop_standby")


def test_repository_that_is_there_is_kept_as_it_is(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, NORTHWIND)
    repository = pygit2.Repository(str(path))
    moved = repository.references["refs/heads/main"].target
    repository.references["refs/heads/environments/nw-pilot"].set_target(moved)
    after_a_rollout = refs_of(path)

    assert ensure_repository(tmp_path, NORTHWIND) == path
    assert refs_of(path) == after_a_rollout


def test_start_killed_half_way_is_made_again(tmp_path: Path) -> None:
    pygit2.init_repository(tmp_path / ".northwind.git", bare=True, initial_head="main")

    path = ensure_repository(tmp_path, NORTHWIND)

    assert set(BRANCHES) <= set(refs_of(path))
    assert [one.name for one in tmp_path.iterdir()] == ["northwind.git"]
