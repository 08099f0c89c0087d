"""Error answers as the API server words them. Every refusal in the practice estate is an `ApiError`."""

from __future__ import annotations

from typing import Any

from deployments.practice.kinds import Kind


class ApiError(Exception):
    """An answer other than success. `body` is a `Status` object, or plain text where the server answers so."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        text: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.headers = headers or {}
        self.text = text
        self.body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
        }
        if reason:
            self.body["reason"] = reason
        if details is not None:
            self.body["details"] = details
        self.body["code"] = code


def details_of(kind: Kind, name: str = "", **more: Any) -> dict[str, Any]:
    """Name the object as `details` does; the core group is left out."""
    out: dict[str, Any] = {}
    if name:
        out["name"] = name
    if kind.group:
        out["group"] = kind.group
    out["kind"] = kind.plural
    return {**out, **more}


def page_not_found() -> ApiError:
    return ApiError(404, "NotFound", "404 page not found", text="404 page not found\n")


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', details=details_of(kind, name))


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', details=details_of(kind, name))


def modified(kind: Kind, name: str) -> ApiError:
    return conflict(
        kind, name, "the object has been modified; please apply your changes to the latest version and try again"
    )


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=details_of(kind, name))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, why: str, *, causes: list[dict[str, Any]] | None = None) -> ApiError:
    subject = f'{kind.resource} "{name}"' if name else kind.resource
    details = details_of(kind, name)
    if causes:
        details["causes"] = causes
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", details=details)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiError:
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", details={}
    )


def unsupported_media_type(accepted: list[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def internal(message: str) -> ApiError:
    return ApiError(500, "", message)


def invalid(kind: Kind, name: str, causes: list[tuple[str, str, str]]) -> ApiError:
    """Refuse an object. A cause is (reason, field, message)."""
    return _invalid(kind.qualified_kind, {"group": kind.group, "kind": kind.kind, "name": name}, name, causes)


def invalid_options(kind: str, causes: list[tuple[str, str, str]]) -> ApiError:
    """Refuse the options of a request, such as an apply without a field manager."""
    return _invalid(f"{kind}.meta.k8s.io", {"group": "meta.k8s.io", "kind": kind}, "", causes)


def _invalid(subject: str, details: dict[str, Any], name: str, causes: list[tuple[str, str, str]]) -> ApiError:
    lines = [f"{where}: {message}" for _, where, message in causes]
    said = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    kept = {key: value for key, value in details.items() if value}
    kept["causes"] = [{"reason": reason, "message": message, "field": where} for reason, where, message in causes]
    return ApiError(422, "Invalid", f'{subject} "{name}" is invalid: {said}', details=kept)


def apply_conflict(conflicts: list[tuple[str, str]]) -> ApiError:
    """Refuse an apply; a conflict is (manager as shown, path as shown)."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, path in conflicts
    ]
    managers: dict[str, list[str]] = {}
    for manager, path in conflicts:
        managers.setdefault(manager, []).append(path)
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        said = f"conflict with {manager}: {path}"
    else:
        said = "\n".join(
            f"conflicts with {manager}:\n" + "\n".join(f"- {path}" for path in paths)
            for manager, paths in managers.items()
        )
    noun = "conflict" if len(conflicts) == 1 else "conflicts"
    return ApiError(409, "Conflict", f"Apply failed with {len(conflicts)} {noun}: {said}", details={"causes": causes})
