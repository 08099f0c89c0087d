"""The proof of a change over REST: its plan, its gates, its story, and what is kept as evidence."""

from __future__ import annotations

from django.http import FileResponse, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.actions import exports
from changecontrol.actions.evidence import open_artefact
from changecontrol.api.audit import EventSerializer
from changecontrol.api.base import READ_REFUSALS, REFUSALS, acting, reading, scope_for
from changecontrol.api.change import OfChange
from changecontrol.api.serializers import ArtefactSerializer, GateResultSerializer, PlanSerializer
from changecontrol.errors import NotFound
from changecontrol.queries.changes import change_by_number, timeline_of

_UNREADABLE = {code: REFUSALS[code] for code in REFUSALS if code[0] == 409}


class EvidenceParts(OfChange):
    @reading(PlanSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def plan(self, request: Request, number: str) -> Response:
        """The current plan, as the document its digest is taken of (RFC 8785)."""
        change = change_by_number(scope_for(request), number)
        if change.plan is None:
            raise NotFound("This change has no plan yet.")
        return Response(PlanSerializer(change.plan).data)

    @reading(GateResultSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def gates(self, request: Request, number: str) -> Response:
        """Every verdict ever given, oldest first; the newest of each gate counts."""
        return self.rows(change_by_number(scope_for(request), number).gate_results.all(), GateResultSerializer)

    @reading(EventSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def timeline(self, request: Request, number: str) -> Response:
        """The audit events of the change, oldest first, with their chain."""
        return self.rows(timeline_of(change_by_number(scope_for(request), number)), EventSerializer)

    @reading(ArtefactSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def evidence(self, request: Request, number: str) -> Response:
        """What is kept as evidence, by SHA-256, oldest first."""
        kept = access.visible(scope_for(request), self._change(number).artefacts.all())
        return self.rows(kept, ArtefactSerializer)

    @extend_schema(
        operation_id="changes_artefact_retrieve",
        responses={
            (200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "The bytes that were kept."),
            **READ_REFUSALS,
            **_UNREADABLE,
        },
        parameters=[OpenApiParameter("artefact", int, OpenApiParameter.PATH)],
    )
    @action(detail=True, url_path="evidence/(?P<artefact>[0-9]{1,18})", pagination_class=None, filterset_class=None)
    def artefact(self, request: Request, number: str, artefact: str) -> HttpResponse:
        """The bytes of one piece of evidence, compared with their SHA-256. That you read them is recorded."""
        opened = open_artefact(
            actor=acting(request), change_id=self._change(number).pk, artefact_id=int(artefact), at=clock.now()
        )
        # A download and never a page: whatever a gate wrote must not run in the reader's browser.
        return HttpResponse(
            opened.data,
            content_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{opened.file_name}"'},
        )

    @extend_schema(
        responses={
            (200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The pack, a zip file."),
            **READ_REFUSALS,
            **_UNREADABLE,
        }
    )
    @action(detail=True, url_path="evidence-pack", pagination_class=None, filterset_class=None)
    def evidence_pack(self, request: Request, number: str) -> FileResponse:
        """The evidence pack: signed, and verified offline by the `verify.py` in it."""
        pack = exports.export_evidence_pack(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        return FileResponse(pack.file, as_attachment=True, filename=pack.name, content_type="application/zip")
