from __future__ import annotations

import base64
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.kubernetes import cluster as cluster_module
from changecontrol.adapters.kubernetes import open_cluster, transport
from changecontrol.adapters.kubernetes.cluster import Cluster
from changecontrol.adapters.kubernetes.transport import within
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import (
    INVENTORY_LABEL,
    ApplyConflict,
    NotAllowed,
    ObjectRef,
    Rejected,
    Right,
    rights_for,
)
from tests.changecontrol.adapters.api_server import ApiServer, recorded, status_answer
from tests.changecontrol.adapters.https_server import TOKEN, HttpsServer, Reply, Request, make_certificate, serve

MANIFEST: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "shop", "labels": {INVENTORY_LABEL: "acme.production"}},
    "data": {"workers": "4"},
}
REF = ObjectRef.of(MANIFEST)
PATH = "/api/v1/namespaces/shop/configmaps/settings"
DOING = "apply ConfigMap shop/settings"


def only(method: str, reply: Reply) -> Callable[[Request], Reply | None]:
    return lambda request: reply if request.method == method else None


def answer_of(case: str, note: str) -> Reply:
    answer = recorded(case, note)["response"]
    return Reply(answer["status"], answer["body"])


def test_apply_is_server_side_strict_and_never_forced(cluster: Cluster, server: HttpsServer) -> None:
    applied = cluster.ensure_applied(MANIFEST)

    request = server.requests[-1]
    assert (request.method, request.path) == ("PATCH", PATH)
    assert request.params == {"fieldManager": "changecontrol", "fieldValidation": "Strict"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.body == MANIFEST
    assert (applied.ref, applied.live["data"]) == (REF, {"workers": "4"})


def test_dry_run_is_asked_of_the_server(cluster: Cluster, server: HttpsServer) -> None:
    cluster.ensure_applied(MANIFEST, dry_run=True)

    assert server.requests[-1].params["dryRun"] == "All"


def test_live_object_is_redacted(cluster: Cluster) -> None:  # RUN-9
    applied = cluster.ensure_applied({**MANIFEST, "kind": "Secret", "data": {"k": "Y2FuYXJ5"}})

    assert applied.live["data"] == {"k": "redacted"}
    assert "managedFields" not in applied.live["metadata"]


def test_kinds_are_discovered_once(cluster: Cluster, server: HttpsServer) -> None:
    cluster.ensure_applied(MANIFEST)
    cluster.ensure_applied(MANIFEST)

    assert [request.path for request in server.requests].count("/api/v1") == 1


def test_unknown_kind_is_rejected_with_a_way_out(cluster: Cluster) -> None:
    with pytest.raises(Rejected, match=r"does not know the kind Widget of example.com/v1. Install its definition"):
        cluster.ensure_applied({**MANIFEST, "apiVersion": "example.com/v1", "kind": "Widget"})


def test_object_without_a_namespace_is_rejected(cluster: Cluster) -> None:
    with pytest.raises(Rejected, match="names no namespace"):
        cluster.ensure_applied({**MANIFEST, "metadata": {"name": "settings"}})


def test_names_cannot_leave_their_place_in_the_path(cluster: Cluster, server: HttpsServer) -> None:
    cluster.observe_object(ObjectRef("v1", "ConfigMap", "shop", "../../kube-system/configmaps/x?a=b"))

    assert (
        server.requests[-1].path == "/api/v1/namespaces/shop/configmaps/..%2F..%2Fkube-system%2Fconfigmaps%2Fx%3Fa%3Db"
    )


FORBIDDEN = answer_of("least privilege", "forbidden")
UNREADY = Reply(500, "[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed")


@pytest.mark.parametrize(
    ("others", "is_starting"),
    [
        ({}, False),
        ({"/readyz": UNREADY}, True),
        ({"/readyz": FORBIDDEN}, False),
        ({"/readyz": FORBIDDEN, "/version": FORBIDDEN}, True),
        ({"/readyz": Reply(404, "404 page not found")}, False),
    ],
    ids=["ready", "unready", "nobody-may-ask", "knows-nobody-yet", "does-not-say"],
)
def test_server_that_has_just_started_is_asked_again(
    cluster: Cluster, api: ApiServer, others: dict[str, Reply], is_starting: bool
) -> None:
    cluster.observe_object(REF)
    api.fault = lambda request: FORBIDDEN if request.path == PATH else others.get(request.path)

    with pytest.raises(Transient if is_starting else NotAllowed) as raised:
        cluster.observe_object(REF)

    if is_starting:
        assert raised.value.args[0].endswith("has just started, and refuses everybody.")


def test_rights_are_not_lacking_while_the_server_starts(cluster: Cluster, api: ApiServer) -> None:
    right = Right(verb="get", group="", resource="pods")
    api.fault = lambda request: UNREADY if request.path == "/readyz" else None

    with pytest.raises(Transient, match="has just started"):
        cluster.observe_rights(namespace="shop", rights=[right])


@pytest.mark.parametrize(
    ("case", "note", "error", "says"),
    [
        ("least privilege", "forbidden", NotAllowed, "lacks the right to"),
        (
            "server-side apply",
            "now the first manager conflicts",
            ApplyConflict,
            ".spec.replicas belongs to someone-else",
        ),
        ("server-side apply", "immutable selector / mismatched labels", Rejected, "field is immutable"),
        ("server-side apply", "unknown field: apply is strict by schema", Rejected, "not declared in schema"),
        ("server-side apply", "strict field validation", Rejected, "strict decoding error"),
        ("namespace", "not found", Rejected, "has no namespace missing"),
        ("deletion", "refused while the namespace terminates", Rejected, "namespace is being deleted"),
    ],
)
def test_refusals_of_an_apply_are_permanent(
    cluster: Cluster, api: ApiServer, case: str, note: str, error: type[Permanent], says: str
) -> None:  # RUN-8
    api.fault = only("PATCH", answer_of(case, note))

    with pytest.raises(error) as raised:
        cluster.ensure_applied(MANIFEST)

    assert type(raised.value) is error
    assert says in raised.value.reason


def test_429_waits_as_long_as_the_server_asks(cluster: Cluster, api: ApiServer) -> None:  # RUN-8
    api.fault = only("PATCH", Reply(429, "", headers={"Retry-After": "17"}))

    with pytest.raises(Transient, match="asks for fewer requests") as raised:
        cluster.ensure_applied(MANIFEST)

    assert raised.value.after == 17.0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_5xx_is_transient(cluster: Cluster, api: ApiServer, status: int) -> None:  # RUN-8
    api.fault = only("PATCH", Reply(status, "upstream"))

    with pytest.raises(Transient, match=rf"could not {DOING} now \(HTTP {status}\)"):
        cluster.ensure_applied(MANIFEST)


def test_timeout_is_transient(cluster: Cluster, api: ApiServer) -> None:  # RUN-8
    api.fault = only("PATCH", Reply(wait=1.3))

    with pytest.raises(Transient, match=f"did not answer in time when asked to {DOING}"):
        cluster.ensure_applied(MANIFEST)


def test_a_call_of_many_requests_ends_in_time_however_slow_each_of_them_is(cluster: Cluster, api: ApiServer) -> None:
    def answer_slowly(request: Request) -> None:
        time.sleep(0.4)

    api.fault = answer_slowly

    with within(0.6), pytest.raises(Transient, match=r"too slowly|in time"):
        cluster.observe_workloads(namespace="shop", inventory="acme.production")


def test_unreachable_cluster_is_transient(server: HttpsServer) -> None:  # RUN-8
    text = server.kubeconfig(cluster={"server": "https://127.0.0.1:1"})
    unreachable = open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": text}), connect_seconds=1)

    with pytest.raises(Transient, match="cannot be reached"):
        unreachable.ensure_applied(MANIFEST)


def test_cut_connection_after_the_server_acted_is_transient_and_found_done(
    cluster: Cluster, api: ApiServer
) -> None:  # RUN-8
    def act_then_cut(request: Request) -> Reply | None:
        if request.method != "PATCH":
            return None
        api.act(request)
        return Reply(cut=True)

    api.fault = act_then_cut
    with pytest.raises(Transient, match="was cut when asked to apply ConfigMap shop/settings; it may have done it"):
        cluster.ensure_applied(MANIFEST)
    api.fault = lambda request: None

    live = cluster.observe_object(REF)

    assert live is not None
    assert live["data"] == {"workers": "4"}


def test_nothing_is_sent_twice_by_the_client(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:  # RUN-1
    api.fault = only("PATCH", Reply(cut=True))

    with pytest.raises(Transient):
        cluster.ensure_applied(MANIFEST)

    assert [request.method for request in server.requests].count("PATCH") == 1


def test_expired_token_is_read_again_once(
    cluster: Cluster, api: ApiServer, server: HttpsServer, secrets: FakeSecrets
) -> None:  # RUN-8
    def only_renewed(request: Request) -> Reply | None:
        is_renewed = request.headers["Authorization"] == "Bearer renewed"
        return None if is_renewed else status_answer(401, reason="Unauthorized", message="Unauthorized")

    api.fault = only_renewed
    secrets.values["env:KUBECONFIG_ONE"] = server.kubeconfig(token="renewed")

    applied = cluster.ensure_applied(MANIFEST)

    assert applied.ref == REF
    assert [r.headers["Authorization"] for r in server.requests].count(f"Bearer {TOKEN}") == 1


def test_expired_token_that_is_not_renewed_is_not_allowed(cluster: Cluster, api: ApiServer) -> None:  # RUN-8
    api.fault = lambda request: status_answer(401, reason="Unauthorized", message="Unauthorized")

    with pytest.raises(NotAllowed, match="The cluster no longer accepts this credential") as raised:
        cluster.ensure_applied(MANIFEST)

    assert TOKEN not in raised.value.reason


def test_credential_that_names_another_server_is_not_followed(
    cluster: Cluster, api: ApiServer, server: HttpsServer, secrets: FakeSecrets
) -> None:
    api.fault = lambda request: status_answer(401, reason="Unauthorized", message="Unauthorized")
    secrets.values["env:KUBECONFIG_ONE"] = server.kubeconfig(cluster={"server": "https://127.0.0.1:2"})

    with pytest.raises(Permanent, match="another server"):
        cluster.ensure_applied(MANIFEST)


def test_untrusted_certificate_is_permanent(server: HttpsServer) -> None:
    text = server.kubeconfig(cluster={"certificate-authority-data": ""})
    strangers = open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": text}))

    with pytest.raises(Permanent, match="not one this credential trusts"):
        strangers.observe_version()


def test_certificate_for_another_name_is_permanent(server: HttpsServer) -> None:
    text = server.kubeconfig(cluster={"tls-server-name": "other.example"})
    strangers = open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": text}))

    with pytest.raises(Permanent, match="not one this credential trusts"):
        strangers.observe_version()


def test_name_in_the_certificate_can_be_another(server: HttpsServer) -> None:
    text = server.kubeconfig(cluster={"tls-server-name": "localhost"})

    assert open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": text})).observe_version() == "v1.36.2"


def test_client_certificate_signs_in_and_leaves_no_file(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    certificate, key = (base64.b64encode(pem.encode()).decode() for pem in make_certificate())
    with serve(api, folder=tmp_path, asks_client_certificate=True) as server:
        text = server.kubeconfig(user={"client-certificate-data": certificate, "client-key-data": key})
        version = open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": text})).observe_version()
        with pytest.raises(Transient, match=r"broke off|was cut"):
            open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": server.kubeconfig()})).observe_version()

    assert version == "v1.36.2"
    assert list(scratch.iterdir()) == []


def test_kind_installed_meanwhile_is_found(cluster: Cluster, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[dict[str, Any]] = []
    api.fault = lambda request: Reply(200, {"resources": served}) if request.path == "/apis/example.com/v1" else None
    widget = {**MANIFEST, "apiVersion": "example.com/v1", "kind": "Widget"}
    with pytest.raises(Rejected):
        cluster.ensure_applied(widget)
    served.append({"kind": "Widget", "name": "widgets", "namespaced": True})

    with pytest.raises(Rejected):
        cluster.ensure_applied(widget)
    monkeypatch.setattr(cluster_module, "DISCOVERY_REFRESH_SECONDS", 0)

    assert cluster.ensure_applied(widget).ref.kind == "Widget"


def test_redirect_is_not_followed(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    api.fault = lambda request: Reply(302, "", headers={"Location": f"{server.url}/elsewhere"})

    with pytest.raises(Permanent, match="sends requests elsewhere"):
        cluster.observe_version()

    assert [request.path for request in server.requests] == ["/version"]


def test_proxy_of_the_environment_is_not_asked(
    open_again: Callable[[], Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert open_again().observe_version() == "v1.36.2"


def test_same_credential_shares_one_connection(
    open_again: Callable[[], Cluster], server: HttpsServer, secrets: FakeSecrets
) -> None:
    first = open_again()
    shared = open_again()
    secrets.values["env:KUBECONFIG_ONE"] = server.kubeconfig(token="renewed")

    assert shared is first
    assert open_again() is not first


def test_lists_are_read_page_by_page(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    api.page_size = 2
    for number in range(5):
        name = f"settings-{number}"
        metadata = {**MANIFEST["metadata"], "name": name}
        api.put(f"/api/v1/namespaces/shop/configmaps/{name}", {**MANIFEST, "metadata": metadata})
    api.put(
        "/api/v1/namespaces/shop/configmaps/other", {**MANIFEST, "metadata": {"name": "other", "namespace": "shop"}}
    )

    refs = cluster.observe_inventory(namespace="shop", inventory="acme.production", kinds=[("v1", "ConfigMap")])

    assert [ref.name for ref in refs] == [f"settings-{number}" for number in range(5)]
    lists = [request.params for request in server.requests if request.path.endswith("/configmaps")]
    assert [params.get("continue") for params in lists] == [None, "2", "4"]
    assert {params["labelSelector"] for params in lists} == {f"{INVENTORY_LABEL}=acme.production"}


def test_kind_the_cluster_does_not_serve_has_no_objects(cluster: Cluster) -> None:
    kinds = [("nosuch.example/v1", "Widget")]

    assert cluster.observe_inventory(namespace="shop", inventory="acme.production", kinds=kinds) == ()


@pytest.mark.parametrize("reply", [Reply(503, ""), Reply(200, "not json"), Reply(200, {"kind": "Status"})])
def test_broken_discovery_is_never_taken_for_nothing_there(cluster: Cluster, api: ApiServer, reply: Reply) -> None:
    api.fault = lambda request: reply

    with pytest.raises(Transient):
        cluster.observe_inventory(namespace="shop", inventory="acme.production", kinds=[("v1", "ConfigMap")])


def test_broken_list_is_never_taken_for_nothing_there(cluster: Cluster, api: ApiServer) -> None:
    api.fault = lambda request: Reply(200, {"kind": "List"}) if request.path.endswith("configmaps") else None

    with pytest.raises(Transient, match="a list without items"):
        cluster.observe_inventory(namespace="shop", inventory="acme.production", kinds=[("v1", "ConfigMap")])


def test_delete_names_what_was_looked_at(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    stored = api.put(PATH, MANIFEST)

    deleted = cluster.ensure_deleted(REF, inventory="acme.production")

    assert deleted
    assert PATH not in api.objects
    assert server.requests[-1].body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {
            "uid": stored["metadata"]["uid"],
            "resourceVersion": stored["metadata"]["resourceVersion"],
        },
    }


def test_workloads_take_their_pods_with_them(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    path = "/apis/apps/v1/namespaces/shop/deployments/settings"
    manifest = {**MANIFEST, "apiVersion": "apps/v1", "kind": "Deployment"}
    api.put(path, manifest)

    assert cluster.ensure_deleted(ObjectRef.of(manifest), inventory="acme.production")
    assert server.requests[-1].body["propagationPolicy"] == "Foreground"


@pytest.mark.parametrize("labels", [{}, {INVENTORY_LABEL: "acme.staging"}])
def test_object_without_the_inventory_label_is_left(
    cluster: Cluster, api: ApiServer, server: HttpsServer, labels: dict[str, str]
) -> None:
    api.put(PATH, {**MANIFEST, "metadata": {**MANIFEST["metadata"], "labels": labels}})

    assert not cluster.ensure_deleted(REF, inventory="acme.production")
    assert "DELETE" not in [request.method for request in server.requests]


def test_object_that_is_gone_needs_no_deletion(cluster: Cluster, api: ApiServer) -> None:
    absent = cluster.ensure_deleted(REF, inventory="acme.production")
    api.put(PATH, MANIFEST)
    api.fault = only("DELETE", answer_of("deletion", "already gone"))

    assert (absent, cluster.ensure_deleted(REF, inventory="acme.production")) == (False, False)


def test_object_changed_since_it_was_looked_at_is_looked_at_again(cluster: Cluster, api: ApiServer) -> None:
    api.put(PATH, MANIFEST)
    stale = [answer_of("patches and conflicts", "stale resourceVersion")]
    api.fault = lambda request: stale.pop() if stale and request.method == "DELETE" else None

    assert cluster.ensure_deleted(REF, inventory="acme.production")


def test_object_that_changes_all_the_time_is_left_for_later(cluster: Cluster, api: ApiServer) -> None:
    api.put(PATH, MANIFEST)
    api.fault = only("DELETE", answer_of("patches and conflicts", "stale resourceVersion"))

    with pytest.raises(Transient, match="another writer"):
        cluster.ensure_deleted(REF, inventory="acme.production")


def test_object_that_lost_its_label_meanwhile_is_left(cluster: Cluster, api: ApiServer) -> None:
    api.put(PATH, MANIFEST)

    def take_label(request: Request) -> Reply | None:
        if request.method != "DELETE":
            return None
        api.put(PATH, {**MANIFEST, "metadata": {"name": "settings", "namespace": "shop"}})
        return answer_of("patches and conflicts", "stale resourceVersion")

    api.fault = take_label

    assert not cluster.ensure_deleted(REF, inventory="acme.production")
    assert PATH in api.objects


def test_apply_on_an_object_being_deleted_is_asked_again(cluster: Cluster, api: ApiServer) -> None:
    dying = {**MANIFEST, "metadata": {**MANIFEST["metadata"], "deletionTimestamp": "2026-01-05T12:00:00Z"}}
    api.fault = only("PATCH", Reply(200, dying))

    with pytest.raises(Transient, match="still being deleted"):
        cluster.ensure_applied(MANIFEST)


def test_rights_are_found_in_the_rules(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    api.rights = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]

    assert cluster.observe_rights(namespace="shop", rights=rights_for(written=[("v1", "ConfigMap")])) == ()
    assert len(server.requests) == 1


def test_rights_not_in_the_rules_are_asked_about_one_by_one(cluster: Cluster, api: ApiServer) -> None:
    api.rights = [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["services"]},
    ]
    api.reviews = lambda attributes: attributes["resource"] == "ingresses"
    rights = [
        Right("get", "", "services"),
        Right("get", "networking.k8s.io", "ingresses"),
        Right("get", "", "configmaps"),
        Right("get", "", "services", "status"),
    ]

    lacked = cluster.observe_rights(namespace="shop", rights=rights)

    assert lacked == (Right("get", "", "configmaps"), Right("get", "", "services", "status"))


def test_review_without_a_verdict_is_no_right(cluster: Cluster, api: ApiServer) -> None:
    def silent(request: Request) -> Reply | None:
        return Reply(201, {"kind": "SelfSubjectAccessReview"}) if "accessreview" in request.path else None

    api.fault = silent

    right = Right("get", "", "configmaps")
    assert cluster.observe_rights(namespace="shop", rights=[right]) == (right,)


def test_the_kinds_of_an_inventory_are_asked_for_at_the_same_time(cluster: Cluster, api: ApiServer) -> None:
    together = threading.Barrier(2, timeout=20)

    def wait_for_another(request: Request) -> Reply | None:
        if request.path.endswith(("/configmaps", "/services")):
            together.wait()
        return None

    api.fault = wait_for_another
    kinds = [("v1", "ConfigMap"), ("v1", "Service")]

    assert cluster.observe_inventory(namespace="shop", inventory="acme.production", kinds=kinds) == ()


@pytest.mark.parametrize("verb", ["observe_served", "observe_rights"])
def test_what_a_gate_asks_of_a_slow_cluster_ends_in_time(
    cluster: Cluster, api: ApiServer, server: HttpsServer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    passed: list[float] = []

    def take_three_seconds(request: Request) -> None:
        passed.append(3.0)

    api.fault = take_three_seconds
    api.reviews = lambda attributes: False
    words: dict[str, dict[str, Any]] = {
        "observe_served": {"kinds": [(f"group{number}.example/v1", "Thing") for number in range(40)]},
        "observe_rights": {
            "namespace": "shop",
            "rights": [Right("get", "", f"things{number}") for number in range(40)],
        },
    }
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(passed)))

    with pytest.raises(Transient, match=r"too slowly|in time"):
        getattr(cluster, verb)(**words[verb])

    assert len(server.requests) < 20


def test_connections_are_kept_for_all_threads_that_talk_to_one_cluster(
    api: ApiServer, secrets: FakeSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = open_cluster(credential="env:KUBECONFIG_ONE", secrets=secrets, connect_seconds=30, read_seconds=30)
    environments = 2
    together = threading.Barrier(environments * transport.THREADS, timeout=25)

    def wait_for_all(request: Request) -> None:
        if "accessreview" in request.path:
            together.wait()

    api.fault = wait_for_all
    api.reviews = lambda attributes: True
    rights = [Right("get", "", f"things{number}") for number in range(transport.THREADS)]

    with ThreadPoolExecutor(max_workers=environments) as pool:
        asked = [pool.submit(cluster.observe_rights, namespace="shop", rights=rights) for _ in range(environments)]
        lacking = [one.result() for one in asked]

    assert lacking == [()] * environments
    assert "Connection pool is full" not in caplog.text
