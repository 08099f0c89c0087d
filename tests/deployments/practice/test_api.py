"""The API beyond what was recorded: ownership, patches, dry run, paging, watches, rights, custom kinds."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest

from tests.contracts.kubernetes.client import MERGE, Client
from tests.deployments.practice.conftest import Rehearsal, client_of

STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def _config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_field_of_an_updating_client_conflicts_with_its_version_and_time(rehearsal: Rehearsal) -> None:
    path = rehearsal.path("configmaps", "c", group="v1")
    rehearsal.client.ask("POST", rehearsal.path("configmaps", group="v1"), _config("c", k="1"))

    answer = rehearsal.client.apply(path, _config("c", k="2"))

    assert answer.status == 409
    assert answer.body["message"].startswith(
        'Apply failed with 1 conflict: conflict with "python-httpx" using v1 at 20'
    )
    assert answer.body["details"]["causes"][0]["field"] == ".data.k"


def test_several_conflicts_are_listed_by_manager(rehearsal: Rehearsal) -> None:
    path = rehearsal.path("configmaps", "c", group="v1")
    rehearsal.client.apply(path, _config("c", a="1", b="1"), manager="first")

    answer = rehearsal.client.apply(path, _config("c", a="2", b="2"), manager="second")

    assert answer.body["message"] == 'Apply failed with 2 conflicts: conflicts with "first":\n- .data.a\n- .data.b'


def test_same_value_by_two_managers_is_shared_and_outlives_one_of_them(rehearsal: Rehearsal) -> None:
    path = rehearsal.path("configmaps", "c", group="v1")
    rehearsal.client.apply(path, _config("c", both="x", own="y"), manager="first")
    rehearsal.client.apply(path, _config("c", both="x"), manager="second")

    answer = rehearsal.client.apply(path, _config("c"), manager="first")

    assert answer.body["data"] == {"both": "x"}


def test_container_left_out_of_the_configuration_goes_with_its_defaults(rehearsal: Rehearsal) -> None:
    manifest = rehearsal.deployment()
    containers = manifest["spec"]["template"]["spec"]["containers"]
    rehearsal.apply({**manifest, "spec": json.loads(json.dumps(manifest["spec"]))})
    containers.append({"name": "proxy", "image": "registry.example/proxy:1"})
    two = rehearsal.apply(manifest).body["spec"]["template"]["spec"]["containers"]
    containers.pop()

    one = rehearsal.apply(manifest).body["spec"]["template"]["spec"]["containers"]

    assert [entry["name"] for entry in two] == ["odoo", "proxy"]
    assert [entry["name"] for entry in one] == ["odoo"]


def test_apply_without_change_keeps_version_and_counts_no_effect(rehearsal: Rehearsal) -> None:
    first = rehearsal.client.apply(rehearsal.path("configmaps", "c", group="v1"), _config("c", k="1"))

    second = rehearsal.client.apply(rehearsal.path("configmaps", "c", group="v1"), _config("c", k="1"))
    effects = rehearsal.client.ask("GET", "/practice/calls").body["effects"]

    assert second.body == first.body
    assert effects[f"apply configmaps {rehearsal.namespace}/c"] == 1


@pytest.mark.parametrize(
    "method, params", [("POST", {"dryRun": "All"}), ("PATCH", {"dryRun": "All", "fieldManager": "changecontrol"})]
)
def test_dry_run_answers_and_stores_nothing(rehearsal: Rehearsal, method: str, params: dict[str, str]) -> None:
    path = rehearsal.path("configmaps", "" if method == "POST" else "dry", group="v1")
    kind = "application/json" if method == "POST" else "application/apply-patch+yaml"

    answer = rehearsal.client.ask(method, path, _config("dry", k="1"), content_type=kind, **params)

    assert answer.status == 201
    assert answer.body["data"] == {"k": "1"}
    assert rehearsal.client.ask("GET", rehearsal.path("configmaps", "dry", group="v1")).status == 404


def test_dry_run_delete_keeps_the_object(rehearsal: Rehearsal) -> None:
    path = rehearsal.path("configmaps", "c", group="v1")
    rehearsal.client.apply(path, _config("c", k="1"))

    assert rehearsal.client.ask("DELETE", path, dryRun="All").status == 200
    assert rehearsal.client.ask("GET", path).status == 200


def test_yaml_body_is_applied(rehearsal: Rehearsal) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  k: 'on'\n"

    answer = rehearsal.client.apply(rehearsal.path("configmaps", "yaml", group="v1"), text)

    assert (answer.status, answer.body["data"]) == (201, {"k": "on"})


def test_strategic_patch_deletes_a_list_item_by_its_key(rehearsal: Rehearsal) -> None:
    manifest = rehearsal.deployment()
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = env
    rehearsal.apply(manifest)

    patch = {"name": "odoo", "env": [{"name": "A", "$patch": "delete"}, {"name": "C", "value": "3"}]}
    body = {"spec": {"template": {"spec": {"containers": [patch]}}}}
    path = rehearsal.path("deployments", "odoo")
    answer = rehearsal.client.ask("PATCH", path, body, content_type=STRATEGIC)

    names = [entry["name"] for entry in answer.body["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert names == ["B", "C"]


@pytest.mark.parametrize(
    "operations, status",
    [
        ([{"op": "add", "path": "/data/new", "value": "1"}], 200),
        ([{"op": "replace", "path": "/data/missing", "value": "1"}], 422),
        ([{"op": "remove", "path": "/data/missing"}], 422),
        ([{"op": "copy", "from": "/data/k", "path": "/data/other"}], 200),
        ([{"op": "nonsense", "path": "/data/k"}], 422),
    ],
)
def test_json_patch_is_all_or_nothing(rehearsal: Rehearsal, operations: list[dict[str, str]], status: int) -> None:
    path = rehearsal.path("configmaps", "c", group="v1")
    rehearsal.client.apply(path, _config("c", k="1"))

    first = {"op": "replace", "path": "/data/k", "value": "2"}
    answer = rehearsal.client.ask("PATCH", path, [first, *operations], content_type=JSON_PATCH)

    assert answer.status == status
    kept = rehearsal.client.ask("GET", path).body["data"]["k"]
    assert kept == ("2" if status == 200 else "1")


def test_strict_field_validation_names_every_unknown_field(rehearsal: Rehearsal) -> None:
    body = {**_config("c", k="1"), "dataa": {}, "metadata": {"name": "c", "nmae": "x"}}

    answer = rehearsal.client.ask("POST", rehearsal.path("configmaps", group="v1"), body, fieldValidation="Strict")

    assert answer.status == 400
    assert 'unknown field "metadata.nmae", unknown field "dataa"' in answer.body["message"]


def test_wrong_type_is_a_bad_request(rehearsal: Rehearsal) -> None:
    answer = rehearsal.client.ask("POST", rehearsal.path("deployments"), rehearsal.deployment(replicas="two"))

    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert "cannot unmarshal string into Go struct field" in answer.body["message"]


@pytest.mark.parametrize(
    "change, field",
    [
        ({"image": ""}, "spec.template.spec.containers[0].image"),
        ({"name": "Not_Valid"}, "spec.template.spec.containers[0].name"),
        ({"ports": [{"containerPort": 70000}]}, "spec.template.spec.containers[0].ports[0].containerPort"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, "spec.template.spec.containers[0].volumeMounts[0].name"),
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            "spec.template.spec.containers[0].resources.requests",
        ),
    ],
)
def test_invalid_container_is_refused_by_field(rehearsal: Rehearsal, change: dict[str, Any], field: str) -> None:
    manifest = rehearsal.deployment()
    manifest["spec"]["template"]["spec"]["containers"][0] |= change

    answer = rehearsal.apply(manifest)

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == [field]


def test_pages_cover_a_list_exactly_once(rehearsal: Rehearsal) -> None:
    for number in range(7):
        rehearsal.client.apply(rehearsal.path("configmaps", f"p{number}", group="v1"), _config(f"p{number}", k="1"))
    path = rehearsal.path("configmaps", group="v1")

    names: list[str] = []
    params = {"limit": "3"}
    while True:
        page = rehearsal.client.ask("GET", path, **params).body
        names += [item["metadata"]["name"] for item in page["items"]]
        if "continue" not in page["metadata"]:
            break
        params["continue"] = page["metadata"]["continue"]

    assert names == ["kube-root-ca.crt", *(f"p{number}" for number in range(7))]


@pytest.mark.parametrize(
    "selector, names",
    [
        ("tier in (a,b)", ["one", "two"]),
        ("tier notin (a)", ["three", "two"]),
        ("tier", ["one", "two"]),
        ("!tier", ["three"]),
        ("tier!=a,app=x", ["three", "two"]),
    ],
)
def test_label_selectors(rehearsal: Rehearsal, selector: str, names: list[str]) -> None:
    for name, labels in (("one", {"tier": "a"}), ("two", {"tier": "b"}), ("three", {})):
        body = _config(name)
        body["metadata"]["labels"] = {"app": "x", **labels}
        rehearsal.client.apply(rehearsal.path("configmaps", name, group="v1"), body)

    found = rehearsal.client.ask(
        "GET", rehearsal.path("configmaps", group="v1"), labelSelector=f"app=x,{selector}"
    ).body

    assert [item["metadata"]["name"] for item in found["items"]] == names


def test_field_that_cannot_be_selected_by_is_refused(rehearsal: Rehearsal) -> None:
    answer = rehearsal.client.ask("GET", rehearsal.path("pods", group="v1"), fieldSelector="spec.nonsense=1")

    assert (answer.status, answer.body["message"]) == (400, "field label not supported: spec.nonsense")


def test_watch_from_a_forgotten_version_says_expired(rehearsal: Rehearsal) -> None:
    rehearsal.server.call(lambda estate: setattr(estate.store, "oldest", max(estate.store.oldest, 5)))

    text = rehearsal.client.ask(
        "GET", rehearsal.path("configmaps", group="v1"), watch="1", resourceVersion="2", timeoutSeconds="5"
    ).body

    event = json.loads(text)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


@pytest.mark.parametrize("params", [{"resourceVersion": "x"}, {"labelSelector": "a b c"}, {"timeoutSeconds": "soon"}])
def test_watch_that_makes_no_sense_is_refused_at_once(rehearsal: Rehearsal, params: dict[str, str]) -> None:
    answer = rehearsal.client.ask("GET", rehearsal.path("pods", group="v1"), watch="1", **params)

    assert answer.status == 400
    assert rehearsal.client.ask("GET", "/readyz").body == "ok"


def test_watch_with_initial_events_ends_them_with_a_bookmark(rehearsal: Rehearsal) -> None:
    text = rehearsal.client.ask(
        "GET", rehearsal.path("configmaps", group="v1"), watch="1", sendInitialEvents="true",
        allowWatchBookmarks="true", timeoutSeconds="1",
    ).body  # fmt: skip

    events = [json.loads(line) for line in text.splitlines()]
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_object_that_stops_matching_is_gone_for_a_watch(rehearsal: Rehearsal) -> None:
    path = rehearsal.path("configmaps", "c", group="v1")
    body = _config("c")
    body["metadata"]["labels"] = {"set": "x"}
    version = rehearsal.client.apply(path, body).body["metadata"]["resourceVersion"]
    rehearsal.client.ask("PATCH", path, {"metadata": {"labels": {"set": "y"}}}, content_type=MERGE)

    text = rehearsal.client.ask(
        "GET", rehearsal.path("configmaps", group="v1"), watch="1", resourceVersion=version, labelSelector="set=x",
        timeoutSeconds="1",
    ).body  # fmt: skip

    assert [json.loads(line)["type"] for line in text.splitlines()] == ["DELETED"]


def test_two_hundred_watches_all_hear_of_a_change(rehearsal: Rehearsal) -> None:
    heard: list[str] = []

    def watch() -> None:
        client = client_of(rehearsal.server)
        heard.append(client.first_line(rehearsal.path("secrets", group="v1"), watch="1", timeoutSeconds="30"))

    threads = [threading.Thread(target=watch) for _ in range(200)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while rehearsal.server.call(lambda estate: estate.watches.count()) < 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rehearsal.server.call(lambda estate: estate.watches.count()) >= 200
    body = {"metadata": {"name": "last"}, "stringData": {}}
    assert rehearsal.client.ask("POST", rehearsal.path("secrets", group="v1"), body).status == 201
    for thread in threads:
        thread.join(30)

    assert len(heard) == 200
    assert all('"type":"ADDED"' in text for text in heard)


def _token(rehearsal: Rehearsal, account: str) -> str:
    rehearsal.client.ask("POST", rehearsal.path("serviceaccounts", group="v1"), {"metadata": {"name": account}})
    path = rehearsal.path("serviceaccounts", account, group="v1") + "/token"
    token: str = rehearsal.client.ask("POST", path, {"spec": {"expirationSeconds": 600}}).body["status"]["token"]
    return token


def _grant(rehearsal: Rehearsal, account: str, rules: list[dict[str, Any]]) -> None:
    group = "rbac.authorization.k8s.io/v1"
    role = {"metadata": {"name": account}, "rules": rules}
    rehearsal.client.ask("POST", rehearsal.path("roles", group=group), role)
    binding = {
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": rehearsal.namespace}],
    }
    rehearsal.client.ask("POST", rehearsal.path("rolebindings", group=group), binding)


def test_right_on_a_subresource_or_a_name_is_no_right_on_the_rest(rehearsal: Rehearsal) -> None:
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]},
    ]
    token = _token(rehearsal, "executor")
    _grant(rehearsal, "executor", rules)
    rehearsal.apply(rehearsal.deployment())
    for name in ("mine", "other"):
        rehearsal.client.apply(rehearsal.path("configmaps", name, group="v1"), _config(name))

    def status(path: str) -> int:
        return rehearsal.client.ask("GET", path, token=token).status

    assert status(rehearsal.path("deployments", "odoo") + "/scale") == 200
    assert status(rehearsal.path("deployments", "odoo")) == 403
    assert status(rehearsal.path("configmaps", "mine", group="v1")) == 200
    assert status(rehearsal.path("configmaps", "other", group="v1")) == 403
    assert status("/api/v1/namespaces/default/configmaps/mine") == 403


def test_token_ends_with_its_account_and_when_expired(rehearsal: Rehearsal) -> None:
    first, second = _token(rehearsal, "one"), _token(rehearsal, "two")
    assert rehearsal.client.ask("GET", "/version", token=first).status == 200

    rehearsal.client.ask("DELETE", rehearsal.path("serviceaccounts", "one", group="v1"))
    assert rehearsal.client.ask("GET", "/version", token=first).status == 401
    rehearsal.server.expire_tokens()
    assert rehearsal.client.ask("GET", "/version", token=second).status == 401


def test_service_account_may_not_inject_faults(rehearsal: Rehearsal) -> None:
    answer = rehearsal.client.ask("POST", "/practice/faults", {"kind": "500"}, token=_token(rehearsal, "eve"))

    assert answer.status == 403


def test_custom_kind_with_a_schema_is_strict_and_goes_with_its_definition(rehearsal: Rehearsal) -> None:
    plural = rehearsal.namespace.replace("-", "") + "s"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    definition = {
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": plural.capitalize(), "singular": plural},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    rehearsal.client.ask("POST", definitions, definition)
    path = rehearsal.path(plural, "a", group="example.com/v1")
    rehearsal.client.until(path, lambda answer: isinstance(answer.body, dict))
    body = {"apiVersion": "example.com/v1", "kind": plural.capitalize(), "metadata": {"name": "a"}, "spec": {"size": 3}}

    good = rehearsal.client.apply(path, body)
    bad = rehearsal.client.apply(path, {**body, "spec": {"sise": 3}})
    rehearsal.client.ask("DELETE", f"{definitions}/{plural}.example.com")
    gone = rehearsal.client.until(path, lambda answer: answer.status == 404)

    assert (good.status, good.body["spec"], good.body["metadata"]["generation"]) == (201, {"size": 3}, 1)
    assert bad.status == 500
    assert ".spec.sise: field not declared in schema" in bad.body["message"]
    assert gone.body == "404 page not found\n"


@pytest.mark.parametrize(
    "body",
    [
        [], "text", {"metadata": []}, {"metadata": {"labels": {"a": 1}}},
        {"metadata": {"name": "x"}, "data": {"k": {}}},
        {"metadata": {"name": "x", "ownerReferences": [{}]}}, {"metadata": {"name": "x", "finalizers": "y"}},
        {"kind": "Secret", "metadata": {"name": "x"}}, {"apiVersion": "v2", "metadata": {"name": "x"}},
        {"metadata": {"name": "x", "annotations": None}, "data": None},
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_senseless_body_is_answered_and_never_an_internal_error(rehearsal: Rehearsal, method: str, body: Any) -> None:
    path = rehearsal.path("configmaps", "" if method == "POST" else "kube-root-ca.crt", group="v1")
    kind = MERGE if method == "PATCH" else "application/json"

    answer = rehearsal.client.ask(method, path, json.dumps(body), content_type=kind)

    assert answer.status < 500, answer.body


def test_secret_written_as_text_is_stored_encoded(rehearsal: Rehearsal) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"password": "x"}}

    answer = rehearsal.client.ask("POST", rehearsal.path("secrets", group="v1"), body)

    assert (answer.body["data"], answer.body["type"]) == ({"password": "eA=="}, "Opaque")
    assert "stringData" not in answer.body


@pytest.mark.parametrize("junk", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"])
def test_malformed_request_is_answered_and_the_server_lives_on(rehearsal: Rehearsal, junk: bytes) -> None:
    client: Client = rehearsal.client
    with (
        socket.create_connection(("127.0.0.1", rehearsal.server.port)) as plain,
        client.context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(junk)
        assert secure.recv(100).startswith(b"HTTP/1.1 400 ")

    assert client.ask("GET", "/readyz").body == "ok"


@pytest.mark.parametrize(
    ("kind", "spoilt", "why"),
    [
        ("Deployment", {"resources": {"limits": {"cpu": "much"}}}, "quantities must match the regular expression"),
        ("Secret", {"key": "%%%"}, "illegal base64 data at input byte 0"),
    ],
)
def test_value_that_cannot_be_read_is_answered_as_the_api_server_does(
    rehearsal: Rehearsal, kind: str, spoilt: dict[str, Any], why: str
) -> None:
    body = {**_config("c"), "kind": "Secret", "data": spoilt}
    plural, group, told = "secrets", "v1", "/v1, Kind=Secret: error decoding from json: "
    if kind == "Deployment":
        body = rehearsal.deployment(name="c")
        body["spec"]["template"]["spec"]["containers"][0].update(spoilt)
        plural, group, told = "deployments", "apps/v1", "apps/v1, Kind=Deployment: "

    applied = rehearsal.client.apply(rehearsal.path(plural, "c", group=group), body)
    posted = rehearsal.client.ask("POST", rehearsal.path(plural, group=group), body)

    assert (applied.status, applied.body.get("reason")) == (500, None)
    assert f"unable to convert unstructured object to {told}{why}" in applied.body["message"]
    assert (posted.status, posted.body["reason"]) == (400, "BadRequest")
    assert f'{kind} in version "v1" cannot be handled as a {kind}: {why}' in posted.body["message"]
