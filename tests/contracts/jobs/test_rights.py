"""`deploy/rbac-jobs.yaml` grants what jobs in a cluster ask for, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import yaml

from changecontrol.adapters.jobs import open_cluster
from changecontrol.adapters.jobs.cluster import RIGHTS
from changecontrol.ports import NotAllowed, ObjectRef, Right
from tests.contracts.jobs.conftest import RBAC, TO_DO, Ground


def granted() -> set[Right]:
    (role,) = [body for body in yaml.safe_load_all(RBAC.read_text()) if body["kind"] == "Role"]
    return {
        Right(verb=verb, group=group, resource=resource)
        for rule in role["rules"]
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def test_preflight_asks_for_exactly_the_grants() -> None:
    assert set(RIGHTS) == granted()


def test_nothing_is_in_the_way_where_the_role_is_bound(ground: Ground) -> None:
    assert ground.runner.observe_obstacles() == ()


def test_what_is_lacking_is_named_where_it_is_not(ground: Ground) -> None:
    elsewhere = open_cluster(ground.kubernetes, place=replace(ground.place, namespace="default"))

    (sentence,) = elsewhere.observe_obstacles()

    assert sentence.startswith("The account of JOBS_CLUSTER may not ")
    assert all(f"{one.verb} {one.resource}" in sentence for one in RIGHTS)
    assert sentence.endswith("in default. Grant it as deploy/rbac-jobs.yaml does.")


def test_every_call_is_made_with_these_rights(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)
    ground.until(lambda sight: sight is not None)
    ground.runner.ensure_removed(TO_DO.run)
    ground.until(lambda sight: sight is None)


def test_secrets_stay_out_of_reach(ground: Ground) -> None:
    with pytest.raises(NotAllowed):
        ground.kubernetes.observe_object(ObjectRef("v1", "Secret", ground.place.namespace, ground.place.secret))
