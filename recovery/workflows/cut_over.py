"""Prepares what a run brings back into production, and looks after the old database once it is in place (BCK-4).

It finds the runs that wait by query, and never calls their side: the run goes on when its own query says so.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from changecontrol.access import Actor, system_actor
from changecontrol.errors import Conflict, Invalid
from changecontrol.lifecycles.run import ACTIVE as ACTIVE_RUNS
from changecontrol.lifecycles.run import RunState
from changecontrol.workflow.engine import Settlement
from recovery.actions.cut_overs import (
    abandon_cut_over,
    begin_cut_over,
    begin_restore,
    begin_safety_backup,
    keep_old,
    move_cut_over,
    put_in_place,
    release_old,
    take_back,
)
from recovery.lifecycles.cut_over import ACTIVE, PREPARING, CutOverState
from recovery.lifecycles.point import ACTIVE_BACKUPS, BackupState
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.lifecycles.restore import RestoreState
from recovery.models import CutOver
from recovery.queries.cut_overs import cut_overs_to_take_back, has_gone_back, runs_to_prepare
from recovery.workflows.steps import NOW, WATCH, locked, settled

NAME = "cut_over"
WATCH_RUN = timedelta(seconds=10)
"""How often it looks at the rollout that puts it in place."""


class CutOverWork:
    """The workflow `cut_over`."""

    name = NAME
    model = CutOver

    def due(self) -> Q:
        return Q(state__in=sorted(ACTIVE))

    def find(self, at: datetime) -> None:
        for run in runs_to_prepare():
            begin_cut_over(run_id=run.pk, actor=system_actor(), at=at)
        for cut_over in cut_overs_to_take_back():
            take_back(cut_over_id=cut_over.pk, actor=system_actor(), at=at)

    def lock(self, pk: int) -> CutOver:
        return locked(CutOver, pk, "change__requester", "run", "backup", "restore")

    def advance(self, row: CutOver, at: datetime) -> Settlement[CutOver]:
        if row.state == CutOverState.KEPT:
            return self._keep(row, at)
        if _is_to_put_in_place(row):
            return settled(lambda one, actor: _in_place(one, actor=actor, at=at), name=NAME, due_in=NOW)
        if row.run.state == RunState.SUCCEEDED:
            return settled(lambda one, actor: _kept(one, actor=actor, at=at), name=NAME, due_in=NOW)
        if row.run.state not in ACTIVE_RUNS:
            return settled(lambda one, actor: _abandoned(one, actor=actor, at=at), name=NAME, due_in=None)
        if row.state == CutOverState.BACKING_UP:
            return self._back_up(row, at)
        if row.state == CutOverState.RESTORING:
            return self._restore(row, at)
        return Settlement(write=None, due_in=WATCH_RUN)

    def refused(self, row: CutOver, reason: str, at: datetime) -> Settlement[CutOver]:
        return settled(lambda one, actor: _fail(one, reason, actor=actor, at=at), name=NAME, due_in=None)

    def exhausted(self, row: CutOver, reason: str, at: datetime) -> Settlement[CutOver]:
        return self.refused(row, reason, at)

    def _back_up(self, row: CutOver, at: datetime) -> Settlement[CutOver]:
        backup = row.backup
        if backup is None:
            return settled(lambda one, actor: _begin_backup(one, actor=actor, at=at), name=NAME, due_in=WATCH)
        if backup.state in ACTIVE_BACKUPS:
            return Settlement(write=None, due_in=WATCH)
        if backup.state != BackupState.SUCCEEDED:
            how = "was canceled" if backup.state == BackupState.CANCELED else "failed"
            return self.refused(row, f"The safety backup {how}, and nothing was restored. {backup.sentence}", at)
        return settled(lambda one, actor: _begin_restore(one, actor=actor, at=at), name=NAME, due_in=WATCH)

    def _restore(self, row: CutOver, at: datetime) -> Settlement[CutOver]:
        restore = row.restore
        assert restore is not None, "restoring begins with its restore"
        if restore.state in ACTIVE_RESTORES:
            return Settlement(write=None, due_in=WATCH)
        if restore.state != RestoreState.SUCCEEDED:
            return self.refused(row, f"The restore did not succeed, and nothing was changed. {restore.sentence}", at)
        return settled(lambda one, actor: _ready(one, actor=actor, at=at), name=NAME, due_in=WATCH_RUN)

    def _keep(self, row: CutOver, at: datetime) -> Settlement[CutOver]:
        assert row.kept_until is not None, "what is kept is kept until a time"
        if at < row.kept_until:
            return Settlement(write=None, due_in=row.kept_until - at)
        return settled(lambda one, actor: _release(one, actor=actor, at=at), name=NAME, due_in=None)


# What was decided before the lock is asked again under it: a lost lease is refused, and a moved row is left alone.


def _begin_backup(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if one.state == CutOverState.BACKING_UP and one.backup_id is None:
        begin_safety_backup(one, actor=actor, at=at)


def _begin_restore(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if one.state != CutOverState.BACKING_UP:
        return
    try:
        begin_restore(one, actor=actor, at=at)
    except (Conflict, Invalid) as refusal:
        _fail(one, refusal.sentence, actor=actor, at=at)


def _ready(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if one.state == CutOverState.RESTORING and one.restore is not None:
        move_cut_over(one, "ready", sentence=one.restore.sentence, actor=actor, at=at)


def _is_to_put_in_place(one: CutOver) -> bool:
    """Tell whether the first wave has opened, which nobody has recorded yet, and what it brought is not given up."""
    has_begun = one.state == CutOverState.READY and one.run.wave_opened_at is not None
    return has_begun and one.in_place_at is None and not has_gone_back(one.run)


def _in_place(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if _is_to_put_in_place(one):
        put_in_place(one, actor=actor, at=at)


def _kept(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if one.state == CutOverState.READY:
        keep_old(one, actor=actor, at=at)


def _release(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if one.state == CutOverState.KEPT:
        release_old(one, actor=actor, at=at)


def _abandoned(one: CutOver, *, actor: Actor, at: datetime) -> None:
    if one.state in PREPARING | {CutOverState.READY}:
        why = f"Its run ended as “{RunState(one.run.state).label.lower()}”."
        abandon_cut_over(one, why=why, actor=actor, at=at)


def _fail(one: CutOver, reason: str, *, actor: Actor, at: datetime) -> None:
    if one.state in PREPARING:
        move_cut_over(one, "fail", sentence=reason, actor=actor, at=at)
