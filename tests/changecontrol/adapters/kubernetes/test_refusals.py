from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from pathlib import Path

import pytest
import yaml

from changecontrol.adapters.kubernetes.refusals import refusal_of, retry_after
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ApplyConflict, FieldConflict, NotAllowed, OverQuota, Rejected, Right
from tests.changecontrol.adapters.api_server import recorded

DEPLOY = Path(__file__).resolve().parents[4] / "deploy"
QUOTA = "quota, disruption budget, autoscaler, network policy"


def refused(case: str, note: str, *, doing: str = "apply Deployment shop/odoo-web") -> Transient | Permanent:
    answer = recorded(case, note)["response"]
    return refusal_of(answer["status"], answer["body"], headers=answer["headers"], doing=doing)


@pytest.mark.parametrize(
    ("case", "note", "kind", "says"),
    [
        ("authentication", "bad token", NotAllowed, "no longer accepts this credential"),
        ("authentication", "no credentials", NotAllowed, "system:anonymous lacks the right to list namespaces"),
        ("least privilege", "forbidden", NotAllowed, "lacks the right to list secrets. Grant it as deploy/rbac.yaml"),
        ("namespace", "not found", Rejected, "has no namespace missing"),
        ("namespace", "already exists", Transient, "another writer"),
        ("namespace", "invalid name", Rejected, "lowercase RFC 1123 label"),
        ("server-side apply", "field manager missing", Rejected, "fieldManager: Required value"),
        ("server-side apply", "unknown field: apply is strict by schema", Rejected, "imagee: field not declared"),
        ("server-side apply", "strict field validation", Rejected, 'unknown field "spec.template'),
        ("server-side apply", "immutable selector / mismatched labels", Rejected, "field is immutable"),
        ("patches and conflicts", "stale resourceVersion", Transient, "another writer"),
        ("jobs", "name taken", Transient, "another writer"),
        (QUOTA, "quota exceeded", OverQuota, "The quota of the namespace is too small"),
        (QUOTA, "refused by the disruption budget", Transient, "asks for fewer requests"),
        ("custom resources", "before the definition exists", Rejected, "does not serve this kind"),
        ("custom resources", "strategic merge is not supported for custom resources", Rejected, "unknown format"),
        ("deletion", "refused while the namespace terminates", Rejected, "its namespace is being deleted"),
    ],
)
def test_recorded_answers_become_errors_with_sentences(case: str, note: str, kind: type, says: str) -> None:  # RUN-8
    error = refused(case, note)

    assert type(error) is kind
    assert isinstance(error, Transient | Permanent)
    assert says in error.reason
    assert error.reason.endswith(".")


UNREADABLE = "to proper version: unable to convert unstructured object to"


@pytest.mark.parametrize(
    ("kind", "message", "says"),
    [
        ("Job", f"failed to convert new object (shop/j; batch/v1, Kind=Job) {UNREADABLE} batch/v1, Kind=Job: "
         "quantities must match the regular expression '^([+-]?[0-9.]+)$'", "quantities must match"),
        ("Deployment", f"failed to convert new object (shop/d; apps/v1, Kind=Deployment) {UNREADABLE} apps/v1, "
         "Kind=Deployment: json: cannot unmarshal array into Go value of type int32", "cannot unmarshal array"),
        ("Secret", f"failed to convert new object (shop/s; /v1, Kind=Secret) {UNREADABLE} /v1, Kind=Secret: error "
         "decoding from json: illegal base64 data at input byte 0", "the reason is withheld"),
    ],
)  # fmt: skip
def test_value_that_cannot_be_read_is_the_manifests_fault(kind: str, message: str, says: str) -> None:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": 500}

    error = refusal_of(500, body, headers={}, doing=f"apply {kind} shop/x", kind=kind)

    assert type(error) is Rejected
    assert says in error.reason


def test_conflict_names_managers_and_paths() -> None:  # RUN-8
    error = refused("server-side apply", "now the first manager conflicts")

    assert isinstance(error, ApplyConflict)
    assert error.conflicts == (FieldConflict(manager="someone-else", path=".spec.replicas"),)
    assert error.reason == (
        "Could not apply Deployment shop/odoo-web: .spec.replicas belongs to someone-else. Take the field out of the "
        "definition, or have the other manager release it."
    )


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('admission webhook "policy.example" denied the request: no', Rejected),
        ('pods "web" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', Rejected),
        (
            'deployments.apps "web" is forbidden: User "x" cannot patch resource "deployments" in API group "apps"',
            NotAllowed,
        ),
        ('forbidden: User "x" cannot get path "/metrics"', NotAllowed),
        ("", NotAllowed),
    ],
)
def test_403_of_rights_and_403_of_policies_are_told_apart(message: str, kind: type) -> None:  # RUN-8
    body = {"kind": "Status", "reason": "Forbidden", "message": message}

    assert type(refusal_of(403, body, headers={}, doing="apply it")) is kind


@pytest.mark.parametrize("name", ["rbac", "rbac-cloudnativepg", "rbac-jobs", "rbac-rehearsal"])
def test_right_that_is_lacking_is_sought_in_a_file_that_grants_it(name: str) -> None:
    for right in granted(f"{name}.yaml"):
        message = (
            f'{right.resource} is forbidden: User "x" cannot {right.verb} resource "{right.resource}" in API group '
            f'"{right.group}" in the namespace "shop"'
        )
        body = {"kind": "Status", "reason": "Forbidden", "message": message}

        error = refusal_of(403, body, headers={}, doing="do it")

        assert isinstance(error, NotAllowed)
        named = error.reason.removesuffix(" does.").rpartition("Grant it as deploy/")[2]
        assert right in granted(named)
        # Who looks at a database asks for events without being refused: its adapter says itself what is lacking.
        assert named in (f"{name}.yaml", "rbac.yaml") or right.resource == "events"


def granted(name: str) -> set[Right]:
    roles = [one for one in yaml.safe_load_all((DEPLOY / name).read_text()) if one["kind"] in ("ClusterRole", "Role")]
    return {
        Right(verb=verb, group=group, resource=resource)
        for role in roles
        for rule in role["rules"]
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 410])
def test_server_errors_are_asked_again(status: int) -> None:  # RUN-8
    error = refusal_of(status, "<html>bad gateway</html>", headers={"Retry-After": "7"}, doing="apply it")

    assert isinstance(error, Transient)
    assert error.after == 7.0
    assert error.reason == f"The cluster could not apply it now (HTTP {status})."


def test_a_refused_secret_is_not_quoted() -> None:
    body = {
        "message": 'Secret "db" is invalid: data[k]: Invalid value: "canary"',
        "details": {"causes": [{"field": "data[k]", "message": 'Invalid value: "canary"'}]},
    }

    error = refusal_of(422, body, headers={}, doing="apply Secret shop/db", kind="Secret")

    assert error.reason == "The cluster refused to apply Secret shop/db: see data[k] (the values are withheld)."


@pytest.mark.parametrize(
    ("value", "seconds"), [("12", 12.0), ("99999", 300.0), ("", None), ("soon", None), ("-5", None)]
)
def test_retry_after_is_read_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    seconds = retry_after({"Retry-After": value})

    assert seconds is not None
    assert 55 < seconds <= 60
