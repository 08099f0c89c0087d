"""What every call of the API shares: who acts, what is in sight, and how words are read and described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from django.db.models import Model, QuerySet
from django_filters import TypedChoiceFilter
from django_filters.rest_framework import DjangoFilterBackend
from django_filters.utils import translate_validation
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.access import Actor, Scope
from changecontrol.actions.evidence import note_reading
from changecontrol.actions.refusals import record_refusal
from changecontrol.api.paging import CURSOR, SIZE, KeysetPagination
from changecontrol.api.parsing import BoundedJSONParser
from changecontrol.api.problems import NOTHING_HERE
from changecontrol.errors import Forbidden, NotFound
from changecontrol.models import ApiToken
from changecontrol.queries.audit import SAME_READING, has_just_read
from changecontrol.rules.roles import Ability, Role
from changecontrol.views.edge import actor_of

M = TypeVar("M", bound=Model)


class ProblemSerializer(serializers.Serializer[Any]):
    """A problem document (RFC 9457). `detail` says it in words; `errors` maps fields to sentences, on 422."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    errors: Any = serializers.DictField(child=serializers.ListField(child=serializers.CharField()), required=False)


def _problem(description: str) -> OpenApiResponse:
    return OpenApiResponse(ProblemSerializer, description=description)


READ_REFUSALS = {
    (401, "application/problem+json"): _problem("Nobody is signed in, or the token is unknown, expired or revoked."),
    (403, "application/problem+json"): _problem("Your roles, or the token's scopes, do not allow this."),
    (404, "application/problem+json"): _problem("There is no such thing, or you may not know of it."),
    (422, "application/problem+json"): _problem("A filter or a word of the body does not make sense."),
}
REFUSALS = {
    (400, "application/problem+json"): _problem("The body is not JSON."),
    **READ_REFUSALS,
    (409, "application/problem+json"): _problem("It is not possible in this state, or somebody else was faster."),
    (413, "application/problem+json"): _problem("The body is too large."),
    (415, "application/problem+json"): _problem("The body is not declared as application/json."),
}
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=(
        "Any text of yours, at most 200 characters. For a day the same key and body get the first answer again, and "
        "nothing is done twice."
    ),
)


class Words(serializers.Serializer[Any]):
    """What a call says. A word nobody asked for is refused: a mistyped name must not pass for silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := sorted(str(name) for name in data.keys() - self.fields.keys())):
            raise ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


class NoWords(Words):
    """The body of a command that needs none."""


def read(shape: type[serializers.Serializer[Any]], request: Request, *, is_partial: bool = False) -> dict[str, Any]:
    """Return the words of a body in their shape. Raises what becomes a problem document."""
    words = shape(data=request.data, partial=is_partial)
    words.is_valid(raise_exception=True)
    found: dict[str, Any] = words.validated_data
    return found


def acting(request: Request) -> Actor:
    """Return who calls, limited to the token's scopes."""
    token = request.auth if isinstance(request.auth, ApiToken) else None
    return actor_of(request._request, token=token, user=request.user)


def scope_for(request: Request) -> Scope:
    """Return what the caller may see, asked once a request."""
    found: Scope | None = getattr(request._request, "_scope", None)
    if found is None:
        found = access.scope_of(acting(request))
        request._request._scope = found  # type: ignore[attr-defined]
    return found


def sight_for(request: Request) -> Scope:
    """Return what the person may see, whatever the token is limited to: commands find their things by it."""
    return replace(scope_for(request), scopes=None)


def refused(request: Request, view: Any, sentence: str) -> Forbidden:
    """Return the refusal of a read, having recorded it as actions record theirs (AUD-1)."""
    refusal = Forbidden(sentence)
    record_refusal(f"{view.basename}-{view.action}", refusal, {"actor": acting(request), "at": clock.now()})
    return refusal


def one_of(scope: Scope, things: QuerySet[M], **conditions: Any) -> M:
    """Return one thing in sight. What is hidden is exactly as missing as what is not there."""
    found = access.visible(scope, things).filter(**conditions).first()
    if found is None:
        raise NotFound(NOTHING_HERE)
    return found


class StrictFilters(DjangoFilterBackend):  # type: ignore[misc]  # the library has no types
    """Filters by the view's filter set, and refuses a filter there is none of instead of showing everything."""

    def filter_queryset(self, request: Request, queryset: QuerySet[M], view: Any) -> QuerySet[M]:
        refuse_unknown_filters(request, self.get_filterset_class(view, queryset))
        found: QuerySet[M] = super().filter_queryset(request, queryset, view)
        return found


def refuse_unknown_filters(request: Request, filters: Any) -> None:
    known = {CURSOR, SIZE, *(filters.base_filters if filters else ())}
    if unknown := sorted(request.query_params.keys() - known):
        raise ValidationError({name: ["There is no such filter."] for name in unknown})


def wanted(request: Request, filters: Any) -> dict[str, Any]:
    """Return the filters of a list that a named query narrows, cleaned by their filter set."""
    refuse_unknown_filters(request, filters)
    asked = filters(data=request.query_params, queryset=filters.Meta.model._default_manager.none(), request=request)
    if not asked.is_valid():
        raise translate_validation(asked.errors)
    found: dict[str, Any] = asked.form.cleaned_data
    return found


class ApiViewSet(viewsets.GenericViewSet[M]):
    """The ground of every resource. `seen_with` is the ability a token needs to read it, or for one of its parts."""

    seen_with: ClassVar[Ability | None] = None
    parts_seen_with: ClassVar[Mapping[str, Ability]] = {}
    is_oldest_first: bool = False
    parser_classes = [BoundedJSONParser]
    filter_backends = [StrictFilters]
    pagination_class: Any = KeysetPagination
    lookup_value_regex = "[0-9]{1,18}"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        needed = self.parts_seen_with.get(self.action, self.seen_with)
        scopes = acting(request).scopes
        if request.method in SAFE_METHODS and needed and scopes is not None and needed not in scopes:
            # Said plainly and before looking: an empty list would read as “there is nothing”.
            raise refused(request, self, access.why_not(Scope(scopes=scopes), needed))

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().finalize_response(request, response, *args, **kwargs)
        found.headers.setdefault("Cache-Control", "no-store")
        is_download = found.has_header("Content-Disposition")  # its action records who took it
        if kwargs and request.method == "GET" and found.status_code == 200 and not is_download:
            _note_reading(request)
        return found

    def rows(self, queryset: QuerySet[Any], shape: type[serializers.BaseSerializer[Any]]) -> Response:
        """Answer with one page of a list."""
        found = self.paginate_queryset(self.filter_queryset(queryset))
        return self.get_paginated_response(shape(found, many=True, context=self.get_serializer_context()).data)


def _note_reading(request: Request) -> None:
    """Record what an auditor reads of a thing with a name of its own, once for as long as a program asks again."""
    if Role.AUDITOR not in scope_for(request).roles:
        return
    actor, at, path = acting(request), clock.now(), request.path[:400]
    if not has_just_read(actor.person, path=path, since=at - SAME_READING):
        note_reading(actor=actor, asked={"path": path}, at=at)


def command(**schema: Any) -> Callable[..., Any]:
    """Describe a command in the schema, with its refusals and its `Idempotency-Key`."""
    responses = schema.pop("responses")
    answers = responses if isinstance(responses, dict) else {200: responses}
    parameters = [IDEMPOTENCY_KEY, *schema.pop("parameters", [])]
    return extend_schema(responses={**answers, **REFUSALS}, parameters=parameters, **schema)


def yes_or_no(field: str | None = None, **options: Any) -> Any:
    """Return a filter of two words; the library's own takes any other for neither."""
    words = [("true", "true"), ("false", "false")]
    return TypedChoiceFilter(field, choices=words, coerce=lambda word: word == "true", **options)


def listing(shape: type[serializers.BaseSerializer[Any]]) -> Callable[..., Any]:
    """Describe the list that a view inherits."""
    return extend_schema_view(list=reading(shape(many=True)))


def reading(answer: Any, **schema: Any) -> Callable[..., Any]:
    """Describe a read in the schema."""
    return extend_schema(responses={200: answer, **READ_REFUSALS}, **schema)
