"""Oneself over REST: who am I, my tokens, my messages; and for administrators, who holds which role."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.helpers import forced_singular_serializer
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.actions.access import grant_role, revoke_role
from changecontrol.actions.inbox import read_messages
from changecontrol.actions.tokens import create_token, revoke_token
from changecontrol.api.base import (
    ApiViewSet,
    NoWords,
    Words,
    acting,
    command,
    listing,
    one_of,
    read,
    reading,
    scope_for,
    sight_for,
    wanted,
    yes_or_no,
)
from changecontrol.api.idempotency import idempotent, idempotent_but_for
from changecontrol.api.paging import Cursor, page, size_of
from changecontrol.errors import Conflict, NotFound
from changecontrol.models import ApiToken, Environment, Message, Tenant, TenantUserObjectPermission, User
from changecontrol.queries.grants import grant_by_key, grants_page
from changecontrol.queries.inbox import messages_of
from changecontrol.rules.roles import Ability, Role


class PlaceRolesSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    environment = serializers.CharField(allow_null=True)
    roles = serializers.ListField(child=serializers.ChoiceField(Role.choices()))


class MeSerializer(serializers.Serializer[Any]):
    """Who calls. `everywhere` are roles held on the whole platform; `scopes` is null where nothing limits the call."""

    username = serializers.CharField()
    display_name = serializers.CharField()
    zone = serializers.CharField()
    authentication = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True)
    everywhere = serializers.ListField(child=serializers.ChoiceField(Role.choices()))
    roles = PlaceRolesSerializer(many=True)


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ApiToken
        fields = ["id", "name", "prefix", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
        read_only_fields = fields


class NewTokenSerializer(TokenSerializer):
    """A token with its secret, which is told this once."""

    secret = serializers.CharField(read_only=True, allow_null=True)

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class TokenWords(Words):
    name = serializers.CharField(max_length=120)
    scopes = serializers.ListField(
        child=serializers.ChoiceField([ability.value for ability in Ability]),
        required=False,
        default=list,
        help_text="Abilities it is limited to; empty: all you have.",
    )
    expires_at = serializers.DateTimeField(help_text="At most a year from now.")


class MessageSerializer(serializers.ModelSerializer[Message]):
    change = serializers.CharField(source="change.number", read_only=True, allow_null=True, default=None)

    class Meta:
        model = Message
        fields = ["id", "tag", "subject", "text", "change", "path", "created_at", "read_at"]
        read_only_fields = fields


class MessageFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    is_read = yes_or_no("read_at", lookup_expr="isnull", exclude=True)


class GrantSerializer(serializers.Serializer[Any]):
    """A role held on a tenant, or on one environment of it. A group's holds for its members."""

    id = serializers.IntegerField(source="key")
    holder = serializers.CharField()
    is_group = serializers.BooleanField()
    role = serializers.ChoiceField(Role.choices())
    tenant = serializers.CharField()
    environment = serializers.CharField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class GrantWords(Words):
    holder = serializers.CharField(max_length=150, help_text="A username.")
    role = serializers.ChoiceField(Role.choices())
    tenant = serializers.CharField(max_length=63, help_text="A slug.")
    environment = serializers.CharField(max_length=63, required=False, allow_null=True, default=None)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class GrantFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter(max_length=63, help_text="A slug.")
    holder = django_filters.CharFilter(max_length=150, help_text="A username, or a group's name.")

    class Meta:
        model = TenantUserObjectPermission
        fields: list[str] = []


class MeViewSet(ApiViewSet[User]):
    queryset = User.objects.none()
    serializer_class = MeSerializer
    pagination_class = None
    filter_backends = []

    @reading(forced_singular_serializer(MeSerializer))  # type: ignore[no-untyped-call]
    def list(self, request: Request) -> Response:
        """Who you are, what your token is limited to, and the roles you hold."""
        actor, scope = acting(request), scope_for(request)
        tenants = dict(Tenant.objects.filter(pk__in=scope.tenants).values_list("pk", "slug"))
        places = Environment.objects.filter(pk__in=scope.environments).values_list("pk", "slug", "tenant__slug")
        roles: list[dict[str, Any]] = [
            *(
                {"tenant": tenants[pk], "environment": None, "roles": sorted(held)}
                for pk, held in scope.tenants.items()
            ),
            *(
                {"tenant": tenant, "environment": slug, "roles": sorted(scope.environments[pk])}
                for pk, slug, tenant in places
            ),
        ]
        told = {
            "username": actor.person.username,
            "display_name": actor.person.display_name,
            "zone": actor.person.zone,
            "authentication": actor.authentication,
            "scopes": sorted(actor.scopes) if actor.scopes is not None else None,
            "everywhere": sorted(scope.everywhere),
            "roles": sorted(roles, key=lambda one: (one["tenant"], one["environment"] or "")),
        }
        return Response(MeSerializer(told).data)


@listing(TokenSerializer)
class TokenViewSet(mixins.ListModelMixin, ApiViewSet[ApiToken]):
    """Your own tokens, ended ones too, newest first. Secrets are nowhere: only their hashes are kept."""

    queryset = ApiToken.objects.none()
    serializer_class = TokenSerializer

    def get_queryset(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.filter(user=acting(self.request).person)

    @command(request=TokenWords, responses={201: NewTokenSerializer})
    @idempotent_but_for("secret")
    def create(self, request: Request) -> Response:
        """Make a token for yourself, signed in with a session. Its secret is in this answer and nowhere else."""
        made = create_token(actor=acting(request), at=clock.now(), **read(TokenWords, request))
        return Response({**TokenSerializer(made.token).data, "secret": made.secret}, status=201)

    @command(request=NoWords, responses=TokenSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def revoke(self, request: Request, pk: str) -> Response:
        """End a token of yours now."""
        read(NoWords, request)
        return Response(TokenSerializer(revoke_token(actor=acting(request), token_id=int(pk), at=clock.now())).data)


@listing(MessageSerializer)
class MessageViewSet(mixins.ListModelMixin, ApiViewSet[Message]):
    """Your inbox, newest first."""

    queryset = Message.objects.none()
    serializer_class = MessageSerializer
    filterset_class = MessageFilters
    seen_with = Ability.CHANGE_VIEW

    def get_queryset(self) -> QuerySet[Message]:
        return messages_of(acting(self.request).person)

    @command(request=NoWords, responses=MessageSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def read(self, request: Request, pk: str) -> Response:
        """Mark a message of yours as read."""
        read(NoWords, request)
        mine = self.get_queryset().filter(pk=pk)
        if not mine.exists():
            raise NotFound("There is no such message.")
        read_messages(actor=acting(request), message_id=int(pk), at=clock.now())
        return Response(MessageSerializer(mine.get()).data)


class GrantViewSet(ApiViewSet[TenantUserObjectPermission]):
    """Who holds which role, on the tenants whose access you may see."""

    queryset = TenantUserObjectPermission.objects.none()
    serializer_class = GrantSerializer
    filterset_class = GrantFilters
    seen_with = Ability.ACCESS_VIEW

    @reading(GrantSerializer(many=True))
    def list(self, request: Request) -> Response:
        """List grants, expired ones too."""
        cursor = Cursor.read(request)
        found = grants_page(
            scope_for(request),
            **wanted(request, GrantFilters),
            before=cursor.after,
            after=cursor.before,
            is_last=cursor.is_last,
            size=size_of(request),
        )
        rows = GrantSerializer(found.rows, many=True).data
        return Response(page(request, rows, previous=found.newer, following=found.older))

    @command(request=GrantWords, responses={204: None})
    @idempotent
    def create(self, request: Request) -> Response:
        """Grant a role; granting it again sets the new expiry."""
        words = read(GrantWords, request)
        tenant, environment_id = _place(request, words.pop("tenant"), words.pop("environment"))
        person = _person(words.pop("holder"))
        grant_role(
            actor=acting(request),
            user_id=person,
            tenant_id=tenant.pk,
            environment_id=environment_id,
            at=clock.now(),
            **words,
        )
        return Response(status=204)

    @command(request=NoWords, responses={204: None})
    @action(detail=True, methods=["post"])
    @idempotent
    def revoke(self, request: Request, pk: str) -> Response:
        """Take a role from its holder."""
        read(NoWords, request)
        grant = grant_by_key(sight_for(request), int(pk))
        if grant.is_group:
            raise Conflict("This role is held by a group; take the person out of the group instead.")
        revoke_role(
            actor=acting(request),
            user_id=grant.holder_id,
            role=grant.role,
            tenant_id=grant.tenant_id,
            environment_id=grant.environment_id,
            at=clock.now(),
        )
        return Response(status=204)


def _place(request: Request, tenant: str, environment: str | None) -> tuple[Tenant, int | None]:
    found = one_of(sight_for(request), Tenant.objects.all(), slug=tenant)
    if environment is None:
        return found, None
    return found, one_of(sight_for(request), Environment.objects.filter(tenant=found), slug=environment).pk


def _person(username: str) -> int:
    """Return somebody's key; the action says that there is nobody, after it has asked who may know."""
    return User.objects.filter(username=username).values_list("pk", flat=True).first() or 0
