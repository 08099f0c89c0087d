"""Who asks and what they may: bearer tokens, service accounts, roles and bindings, and the reviews that show them."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from deployments.practice import status
from deployments.practice.clock import PracticeClock
from deployments.practice.kinds import Kind
from deployments.practice.registry import Registry
from deployments.practice.store import Body, Store

ADMIN_GROUP = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """Who a credential stands for."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""

    @property
    def is_admin(self) -> bool:
        return ADMIN_GROUP in self.groups


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing somebody wants to do. `path` is set instead for what is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


_EVERYBODY_PATHS = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_SIGNED_IN_PATHS = ("/api", "/apis", "/openapi", *_EVERYBODY_PATHS)
_SIGNED_IN_REVIEWS = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
}
_RULES_FOR_ALL: list[Body] = [
    {
        "verbs": ["create"],
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    },
    {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
]
_PATH_RULES_FOR_ALL: list[Body] = [
    {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"]},
    {
        "verbs": ["get"],
        "nonResourceURLs": [
            "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
            "/version/",
        ],
    },
]  # fmt: skip


@dataclass(slots=True)
class Access:
    """Tokens and rights. The admin token never expires; a service account's lives as long as it was asked for.

    A service account's token says whom it stands for, sealed with a key made of the admin token, so that it outlives a
    restart and nothing has to be kept.
    """

    store: Store
    registry: Registry
    clock: PracticeClock
    admin_token: str
    _valid_from: float = field(default=0.0)

    def user_of(self, authorization: str | None) -> User:
        """Return who an Authorization header stands for. Raises the 401 for a token that is unknown or expired."""
        if authorization is None:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise status.unauthorized()
        if hmac.compare_digest(token.encode(), self.admin_token.encode()):
            return User("practice-admin", (ADMIN_GROUP, "system:authenticated"))
        claims = self._claims(token)
        if claims is None or claims["exp"] <= self.clock.now() or claims["iat"] < self._valid_from:
            raise status.unauthorized()
        user = _account(claims["namespace"], claims["name"], claims["uid"])
        if not self._is_live(user):
            raise status.unauthorized()
        return user

    def token_for(self, namespace: str, name: str, *, seconds: float) -> tuple[str, float]:
        """Issue a token for a service account; return it and when it expires."""
        item = self.store.get(self.registry.of("ServiceAccount"), namespace, name)
        if item is None:
            raise status.not_found(self.registry.of("ServiceAccount"), name)
        now = self.clock.now()
        claims = {"namespace": namespace, "name": name, "uid": item.metadata["uid"], "iat": now, "exp": now + seconds}
        claims["jti"] = secrets.token_hex(8)
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        return f"{body}.{self._seal(body)}", now + seconds

    def expire_tokens(self) -> None:
        """Let every service account's token expire now."""
        self._valid_from = self.clock.now()

    def _seal(self, body: str) -> str:
        return hmac.new(f"service accounts {self.admin_token}".encode(), body.encode(), "sha256").hexdigest()

    def _claims(self, token: str) -> Body | None:
        body, _, seal = token.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(body).encode()):
            return None
        try:
            claims: Body = json.loads(base64.urlsafe_b64decode(body))
        except (ValueError, binascii.Error):
            return None
        return claims

    def require(self, user: User, asked: Asked, kind: Kind | None) -> None:
        """Raise the 403 unless the user may."""
        if self.is_allowed(user, asked):
            return
        if kind is None:
            raise status.ApiError(
                403, "Forbidden", f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"', details={}
            )
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        why = f'User "{user.name}" cannot {asked.verb} resource "{resource}" in API group "{asked.group}" {where}'
        raise status.forbidden(kind, asked.name, why)

    def is_allowed(self, user: User, asked: Asked) -> bool:
        if user.is_admin:
            return True
        if asked.path:
            if asked.verb not in ("get", "head"):
                return False
            allowed = _EVERYBODY_PATHS if user == ANONYMOUS else _SIGNED_IN_PATHS
            return any(
                asked.path == path or (path in _SIGNED_IN_PATHS[:3] and asked.path.startswith(path + "/"))
                for path in allowed
            )
        if asked.verb == "create" and (asked.group, asked.resource) in _SIGNED_IN_REVIEWS and user != ANONYMOUS:
            return True
        return any(_covers(rule, asked) for rule in self._rules(user, asked.namespace))

    def access_review(self, user: User, spec: Body) -> Body:
        """Answer a SelfSubjectAccessReview."""
        wanted, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes") or {}
        if wanted is None:
            asked = Asked(verb=path.get("verb", ""), path=path.get("path", ""))
        else:
            asked = Asked(
                verb=wanted.get("verb", ""),
                group=wanted.get("group", ""),
                resource=wanted.get("resource", ""),
                subresource=wanted.get("subresource", ""),
                namespace=wanted.get("namespace", ""),
                name=wanted.get("name", ""),
            )
        return {"allowed": self.is_allowed(user, asked)}

    def rules_review(self, user: User, namespace: str) -> Body:
        """Answer a SelfSubjectRulesReview."""
        everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}] if user.is_admin else []
        paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}] if user.is_admin else []
        rules = [rule for rule in self._rules(user, namespace) if "resources" in rule]
        return {
            "resourceRules": [*everything, *_RULES_FOR_ALL, *rules],
            "nonResourceRules": [*paths, *_PATH_RULES_FOR_ALL],
            "incomplete": False,
        }

    def _is_live(self, user: User) -> bool:
        _, _, namespace, name = user.name.split(":")
        item = self.store.get(self.registry.of("ServiceAccount"), namespace, name)
        return item is not None and item.metadata["uid"] == user.uid

    def _rules(self, user: User, namespace: str) -> list[Body]:
        group = "rbac.authorization.k8s.io"
        rules: list[Body] = []
        for item in self.store.items(self.registry.of("ClusterRoleBinding", group)):
            if _binds(item.body, user, ""):
                rules += self._role_rules(item.body.get("roleRef") or {}, "")
        if namespace:
            for item in self.store.items(self.registry.of("RoleBinding", group), namespace):
                if _binds(item.body, user, namespace):
                    rules += self._role_rules(item.body.get("roleRef") or {}, namespace)
        return rules

    def _role_rules(self, reference: Body, namespace: str) -> list[Body]:
        kind = reference.get("kind", "")
        if kind == "Role" and not namespace:
            return []
        role_kind = self.registry.of("Role" if kind == "Role" else "ClusterRole", "rbac.authorization.k8s.io")
        role = self.store.get(role_kind, namespace if kind == "Role" else "", reference.get("name", ""))
        return list(role.body.get("rules") or ()) if role is not None else []


def _account(namespace: str, name: str, uid: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups, uid)


def _binds(binding: Body, user: User, namespace: str) -> bool:
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name")
        if kind == "ServiceAccount":
            if user.name == f"system:serviceaccount:{subject.get('namespace', namespace)}:{name}":
                return True
        elif (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return True
    return False


def _covers(rule: Body, asked: Asked) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    resources = rule.get("resources") or ()
    is_resource = "*" in resources or resource in resources
    is_resource = is_resource or bool(asked.subresource and f"*/{asked.subresource}" in resources)
    names = rule.get("resourceNames") or ()
    return (
        _has(rule.get("verbs"), asked.verb)
        and _has(rule.get("apiGroups"), asked.group)
        and is_resource
        and (not names or asked.name in names)
    )


def _has(listed: Any, value: str) -> bool:
    return "*" in (listed or ()) or value in (listed or ())
