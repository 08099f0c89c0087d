"""The tags of everything the audit trail can say: `subject:thing:verb`."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    CHANGE_CREATED = "change:created"
    CHANGE_DRAFT_SAVED = "change:draft:saved"
    CHANGE_SUBMITTED = "change:submitted"
    CHANGE_REVISED = "change:revised"
    CHANGE_ASSESSING = "change:assessing"
    CHANGE_ASSESSMENT_FAILED = "change:assessment:failed"
    CHANGE_AUTHORIZING = "change:authorizing"
    CHANGE_SCHEDULED = "change:scheduled"
    CHANGE_RESCHEDULED = "change:rescheduled"
    CHANGE_UNSCHEDULED = "change:unscheduled"
    CHANGE_HELD = "change:held"
    CHANGE_RELEASED = "change:released"
    CHANGE_CANCELED = "change:canceled"
    CHANGE_REJECTED = "change:rejected"
    CHANGE_EXPIRED = "change:expired"
    CHANGE_STARTED = "change:started"
    CHANGE_VALIDATING = "change:validating"
    CHANGE_IN_REVIEW = "change:in_review"
    CHANGE_CLOSED = "change:closed"
    CHANGE_HANDED_OVER = "change:handed_over"

    PLAN_RESOLVED = "change:plan:resolved"
    GATE_JUDGED = "change:gate:judged"
    ROUND_OPENED = "change:approval:round_opened"
    ROUND_REOPENED = "change:approval:round_reopened"
    ROUND_ENDED = "change:approval:round_ended"
    VOTE_CAST = "change:approval:cast"
    VOTE_WITHDRAWN = "change:approval:withdrawn"
    VOTES_STALE = "change:approval:stale"

    RUN_CREATED = "run:created"
    RUN_MOVED = "run:moved"
    RUN_ASKED = "run:asked"
    RUN_NEEDS_ATTENTION = "run:needs_attention"
    TARGET_MOVED = "run:target:moved"
    OBJECT_APPLIED = "run:object:applied"
    OBJECT_PRUNED = "run:object:pruned"
    GIT_REF_MOVED = "run:git:moved"
    SAFETY_ACTION = "run:safety_action"

    WINDOW_CREATED = "window:created"
    WINDOW_CHANGED = "window:changed"
    FREEZE_OPENED = "freeze:opened"
    FREEZE_LIFTED = "freeze:lifted"
    POLICY_PUBLISHED = "policy:published"
    ESTATE_CHANGED = "estate:changed"
    PERSON_CREATED = "access:person:created"
    ROLE_GRANTED = "access:role:granted"
    ROLE_REVOKED = "access:role:revoked"
    PROFILE_CHANGED = "access:profile:changed"
    TOKEN_CREATED = "access:token:created"  # noqa: S105
    TOKEN_REVOKED = "access:token:revoked"  # noqa: S105
    SIGNED_IN = "access:signed_in"
    SIGNED_OUT = "access:signed_out"
    SIGN_IN_FAILED = "access:sign_in_failed"
    LOCKED_OUT = "access:locked_out"
    PASSWORD_CHANGED = "access:password_changed"  # noqa: S105
    SECOND_FACTOR_CHANGED = "access:second_factor_changed"

    EVIDENCE_STORED = "evidence:stored"
    EVIDENCE_EXPORTED = "evidence:exported"
    EVIDENCE_READ = "evidence:read"
    REFUSED = "refused"
