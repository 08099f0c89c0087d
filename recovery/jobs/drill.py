"""The job behind a drill: bring a point back where nobody is harmed, question it up to a level, clear away.

A question that is answered wrongly is a check that failed, with the words of what is wrong. What keeps a drill from
asking at all (no programs, no room, no key) is its trouble, and proves nothing about the point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from changecontrol import clock
from changecontrol.errors import Hindered, Permanent
from changecontrol.rules.counting import counted
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.odoo import ensure_neutralised, observe_attachments, observe_odoo
from recovery.adapters.odoo.checks import run_odoo_checks
from recovery.adapters.postgres.incremental import FaultIn
from recovery.adapters.postgres.programs import NO_ROOM
from recovery.adapters.postgres.sandbox import Sandbox, make_sandbox
from recovery.adapters.postgres.sentinel import has_sentinels, newest_sentinel
from recovery.adapters.postgres.verifying import question
from recovery.adapters.postgres.wal import NotCovered
from recovery.jobs import attachments, rehearsal
from recovery.jobs.copies import Bench, Leftover, bench_of, database_of
from recovery.jobs.observing import ObservedStore, observing
from recovery.jobs.recovered import Server, begin_altering, check_unaltered, recovered_server, server_at
from recovery.jobs.sabotage import sabotaged
from recovery.jobs.saying import Saying
from recovery.jobs.stored import Stored, StoredBase, StoredDump, StoredElsewise, stored_of
from recovery.models import BackupPolicy, Drill, FilestoreCopy
from recovery.models.backup import BackupKind
from recovery.models.policy import Engine
from recovery.ports.clusters import ClusterBackupStanding, DatabaseCluster
from recovery.ports.filestore import FindingKind
from recovery.queries.attachments import copy_for
from recovery.queries.cut_overs import database_at
from recovery.queries.points import coverage_of, size_to_restore
from recovery.rules.consistency import DatabasePart, FilestorePart, Origin, RecoverySet, check_set
from recovery.rules.times import length, moment
from recovery.rules.verification import ELSEWHERE

SENTINEL_PATIENCE = timedelta(minutes=3)
"""Sentinels come each minute; what is older than this before the time restored to is missing."""
LOST = "Attachments that the shop has"
UNPACKED = "Unpacked against its manifest"
SENTINELS_BEGIN_WITHIN = timedelta(minutes=10)
"""So long after a policy first asked for them there may be none yet: a point is taken before the first is written."""
NAMED = 3
"""How many findings a sentence names."""


class Failed(Exception):
    """A check failed, and what would be asked next needs what it asked for."""


@dataclass
class Checks:
    """The answers in the order they were given."""

    found: list[dict[str, Any]] = field(default_factory=list)
    faulty: str = ""
    """Which backup of a chain a check found at fault, where it tells."""

    def note(self, name: str, level: int, *, is_passed: bool, sentence: str, is_about_copy: bool = True) -> None:
        answer = {"name": name, "level": level, "is_passed": is_passed, "is_about_copy": is_about_copy}
        self.found.append({**answer, "sentence": sentence, "at": clock.now().isoformat()})

    @contextmanager
    def asking(self, name: str, level: int) -> Iterator[list[str]]:
        """Ask one question. `Permanent` is the answer no; the block adds to the list what a yes should say."""
        words: list[str] = []
        try:
            yield words
        except Permanent as wrong:
            if NO_ROOM in wrong.reason:
                # The sandbox's server says so of our own disk.
                raise Hindered(wrong.reason) from None
            self.faulty = wrong.label if isinstance(wrong, FaultIn) else ""
            self.note(name, level, is_passed=False, sentence=wrong.reason)
            raise Failed from None
        self.note(name, level, is_passed=True, sentence=" ".join(words) or "As it should be.")


def practise(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Carry out a drill. The order: `drill`, and `recovery` where an operator recovered a cluster for it.

    Returns `phases`, `checks`, the newest sentinel, trouble and leftovers, and which backup of a chain is `faulty`.
    """
    drill = Drill.objects.select_related("point__policy__environment__tenant", "environment__tenant").get(
        pk=order["drill"]
    )
    saying = Saying(report)
    checks = Checks()
    outcome: dict[str, Any] = {"trouble": "", "leftovers": "", "newest_sentinel_at": None}
    try:
        store = sabotaged(drill) if drill.sabotage else doors.open_store_to_read(drill.point.policy)
        with bench_of(drill.point, run_id=str(drill.key), store=ObservedStore(store), saying=saying) as bench:
            with suppress(Failed):
                ask = _ask_operators if drill.point.policy.engine == Engine.CLOUDNATIVEPG else _ask
                ask(order, drill, bench, checks, outcome)
            saying.begin("tearing_down", "Clearing away what was brought back.")
    except Leftover as left:
        outcome["leftovers"] = left.reason
    except (Permanent, Hindered) as trouble:
        outcome["trouble"] = trouble.reason
    saying.begin("over", "It is over.")
    return {**outcome, "checks": checks.found, "faulty": checks.faulty, "phases": saying.phases}


def _ask(_: Mapping[str, Any], drill: Drill, bench: Bench, checks: Checks, outcome: dict[str, Any]) -> None:
    saying = bench.saying
    bench.check_identity()
    if drill.level >= ELSEWHERE:
        rehearsal.check_place(drill)
    if drill.level == 1:
        saying.begin("checking", "Reading every object of the copy.")
        stored = _stored(drill, bench, checks)
        _fetched(drill, checks, stored=stored, sandbox=make_sandbox(bench.folder, run_id=bench.run_id))
        return
    saying.begin("provisioning", "Reading every object of the copy, and making room.")
    stored = _stored(drill, bench, checks)
    sandbox = make_sandbox(bench.folder, run_id=bench.run_id)
    saying.begin("restoring", "Fetching the copy.", total_bytes=size_to_restore(drill.point))
    _fetched(drill, checks, stored=stored, sandbox=sandbox)
    with checks.asking("Restored and started", 2) as words:
        database = database_at(drill.environment, drill.target_at)
        restored = stored.start(sandbox, at=drill.target_at, database=database)
        words.append(f"PostgreSQL {stored.server_version} answers as of {moment(drill.target_at)}.")
        words.extend(restored.facts.left_out)
    with restored:
        server = server_at(restored.url, version=stored.server_version, programs=stored.programs)
        _question(drill, bench, checks, outcome, server=server, sandbox=sandbox)


def _ask_operators(
    order: Mapping[str, Any], drill: Drill, bench: Bench, checks: Checks, outcome: dict[str, Any]
) -> None:
    """Ask the same of a point whose base backup an operator keeps, and of the cluster that it recovered."""
    saying = bench.saying
    bench.check_identity()
    if drill.level >= ELSEWHERE:
        # Hours have passed since it was looked at before the operator began.
        rehearsal.check_place(drill)
    phase = "checking" if drill.level == 1 else "restoring"
    saying.begin(phase, "Asking the operator, and reading what is in the store.")
    _told(drill, checks)
    _stored_besides(drill, bench, checks, stored=None)
    if drill.level == 1:
        return
    with checks.asking("Restored and started", 2) as words:
        with observing():
            server = recovered_server(drill.point, order["recovery"])
            check_unaltered(server, database=database_at(drill.environment, drill.target_at))
        words.append(f"PostgreSQL {server.version} answers as of {moment(drill.target_at)}, in a cluster of its own.")
        words.append("Its files are the operator's: pg_verifybackup was not asked.")
    _question(drill, bench, checks, outcome, server=server, sandbox=make_sandbox(bench.folder, run_id=bench.run_id))


def _question(
    drill: Drill, bench: Bench, checks: Checks, outcome: dict[str, Any], *, server: Server, sandbox: Sandbox
) -> None:
    bench.saying.begin("checking", "Questioning what was restored.")
    _question_database(drill, bench, checks, outcome, server=server)
    if drill.level >= 3:
        _question_attachments(drill, bench, checks, server=server)
    if drill.level >= ELSEWHERE:
        # Before Odoo sells something on the copy: what goes elsewhere is what was restored.
        with checks.asking("Database beside the other cluster", ELSEWHERE) as words:
            database = database_at(drill.environment, drill.target_at)
            words.append(rehearsal.place(drill, bench, server=server, database=database, sandbox=sandbox))
    if drill.level == 4 or (drill.level > 4 and settings.ODOO_COMMAND):
        _question_odoo(drill, bench, checks, server=server, sandbox=sandbox)


def _told(drill: Drill, checks: Checks) -> None:
    """Level 1, of an operator: it has the base backup as it was recorded, and says that the time can be restored."""
    point, facts = drill.point, drill.point.cluster_facts or {}
    cluster = DatabaseCluster(*str(facts["name"]).split("/", 1))
    with observing():
        clusters = doors.open_database_clusters(drill.environment)
        backup = clusters.observe_backup(run=facts["backup"], namespace=cluster.namespace)
    if backup is None:
        # Somebody may have removed what tells of it alone.
        raise Hindered(f"The operator says nothing of the backup {facts['backup']} any more.")
    with checks.asking("Base backup", 1) as words:
        if backup.standing is not ClusterBackupStanding.COMPLETED:
            raise Permanent(backup.sentence)
        told = (backup.backup_id, backup.begin_lsn, backup.end_lsn)
        if told != (facts["backup_id"], point.start_lsn, point.stop_lsn):
            raise Permanent(f"The backup {backup.name} is not the one that was recorded: it is {backup.backup_id}.")
        words.append(backup.sentence)
    with observing():
        state = clusters.observe_cluster(cluster)
    covered = state.covered(clock.now()) if state is not None else None
    if state is None or covered is None or not covered[0] <= drill.target_at <= covered[1]:
        why = f"{cluster} is gone."
        if state is not None:
            why = state.trouble or " ".join(state.findings)
        raise Hindered(f"The operator does not say that {moment(drill.target_at)} can be restored. {why}".strip())
    with checks.asking("WAL of the operator", 1) as words:
        words.append(f"The operator says that it can restore {moment(covered[0])} to {moment(covered[1])}.")


def _stored(drill: Drill, bench: Bench, checks: Checks) -> Stored:
    """Level 1: every object is there as it was written, and it is one set."""
    with checks.asking("Dump" if drill.point.kind == BackupKind.DUMP else "Base backup", 1) as words:
        stored = stored_of(bench)
        words.append(stored.verify())
    if not isinstance(stored, StoredElsewise):
        # What another tool registered is all that tells what belongs together.
        _stored_besides(drill, bench, checks, stored=stored)
    return stored


def _stored_besides(drill: Drill, bench: Bench, checks: Checks, *, stored: StoredBase | StoredDump | None) -> None:
    """Level 1, of what lies in our store besides the database: None where that is an operator's."""
    copy = _attachments_copy(drill, checks)
    if copy is not None:
        with observing():
            # What is wrong with them it returns; it refuses where our key does not open the list of them.
            findings = attachments.archive_of(bench.policy, bench.store).observe_damage(attachments.point_of(copy))
        with checks.asking("Attachments in the store", 1) as words:
            _refuse([one.sentence for one in findings])
            words.append(
                f"The list {copy.name} and every pack it names have their digests: {counted(copy.file_count, 'file')}."
            )
    with checks.asking("One set", 1) as words:
        _check_set(drill, bench, stored=stored)
        words.append("Database, attachments, commit, image and modules are those recorded for this point.")


def _attachments_copy(drill: Drill, checks: Checks) -> FilestoreCopy | None:
    with checks.asking("Attachments of that time", 1) as words:
        copy = copy_for(drill.point, drill.target_at)
        words.append(f"Copied at {moment(copy.taken_at)}." if copy else "None are copied.")
    return copy


def _check_set(drill: Drill, bench: Bench, *, stored: StoredBase | StoredDump | None) -> None:
    point, found = drill.point, bench.recorded_set()
    origin = Origin(bench.prefix, point.key)
    parts = {one.kind: one for one in point.parts.all()}
    taken_at = {"declared": point.filestore_at, "found": (found["filestore"] or {}).get("taken_at")}

    def whole(database: DatabasePart, filestore: FilestorePart | None, said: Mapping[str, Any]) -> RecoverySet:
        modules = tuple(sorted((str(name), str(version)) for name, version in said["modules"].items()))
        return RecoverySet(database, filestore, str(said["commit"]), str(said["image"]), modules)

    declared_database = DatabasePart(
        origin, point.system_identifier, point.timeline, point.start_lsn, point.stop_lsn, point.consistent_at,
        parts["database"].sha256 if stored else "",
    )  # fmt: skip
    told = found["database"]
    if stored is None:
        found_database = DatabasePart(
            origin, told["system_identifier"], told["timeline"], told["start_lsn"], told["stop_lsn"],
            datetime.fromisoformat(told["stopped_at"]), "",
        )  # fmt: skip
    else:
        found_database = stored.part(origin, sha256=told["sha256"])
    declared_files = found_files = None
    if taken_at["declared"] is not None:
        declared_files = FilestorePart(origin, taken_at["declared"], parts["filestore_manifest"].sha256)
    if found["filestore"]:
        found_files = FilestorePart(
            origin, datetime.fromisoformat(found["filestore"]["taken_at"]), found["filestore"]["sha256"]
        )
    # Of a point that was taken in, a commit that nobody rolled out here is not recorded.
    commit = point.git_commit if point.git_commit or point.run_id is not None else found["commit"]
    said = {"modules": point.modules, "commit": commit, "image": point.image}
    mismatches = check_set(
        whole(declared_database, declared_files, said), found=whole(found_database, found_files, found), origin=origin
    )
    _refuse([one.sentence for one in mismatches])


def _fetched(drill: Drill, checks: Checks, *, stored: Stored, sandbox: Sandbox) -> None:
    if not isinstance(stored, StoredBase):
        return  # It is held against what it says of itself while it is restored.
    with checks.asking(UNPACKED, 1) as words:
        try:
            stored.fetch(sandbox, at=drill.target_at)
        except NotCovered as gap:
            if _is_counted_on(drill):
                raise
            # What nobody counts on any more is a gap in time, and no fault of the copy.
            checks.note(UNPACKED, 1, is_passed=False, is_about_copy=False, sentence=gap.reason)
            raise Failed from None
        words.append("pg_verifybackup finds every file of the database and every record of the WAL as written.")


def _is_counted_on(drill: Drill) -> bool:
    """Tell whether the catalogue says that the point leads to the time: it may have ceased to since the drill began."""
    reach = coverage_of(drill.environment).reaches.get(drill.point.key)
    return reach is not None and reach.holds(drill.target_at)


def _question_database(drill: Drill, bench: Bench, checks: Checks, outcome: dict[str, Any], *, server: Server) -> None:
    with checks.asking("Structure and every row", 2) as words:
        databases = question(server, programs=server.programs)
        words.append(f"pg_amcheck and a full logical read of {counted(len(databases), 'database')} find no fault.")
    if not (wanted := database_at(drill.environment, drill.target_at)):
        raise Hindered("The environment names no database: say in the estate which one is its.")
    with checks.asking("Database of the environment", 2) as words:
        database = database_of(server.url, wanted=wanted)
        words.append(f"“{database}” is there.")
    url = server.url_of(database)
    if bench.policy.has_sentinel and bench.policy.source and not has_sentinels(url) and _is_before_sentinels(drill):
        checks.note("Newest sentinel", 2, is_passed=True, sentence="At that time none had been written yet.")
    elif bench.policy.has_sentinel and bench.policy.source:
        with checks.asking("Newest sentinel", 2) as words:
            newest = newest_sentinel(url)
            outcome["newest_sentinel_at"] = newest.isoformat()
            lag = drill.target_at - newest
            if lag > SENTINEL_PATIENCE:
                raise Permanent(f"The newest sentinel is of {moment(newest)}: {length(lag)} are missing.")
            words.append(f"It is of {moment(newest)}.")
    with checks.asking("Newest orders", 2) as words:
        facts = observe_odoo(url)
        if facts is None:
            words.append("This is no Odoo database: there are no orders to ask for.")
        else:
            times = [one for one in (facts.newest_sale_order_at, facts.newest_pos_order_at) if one is not None]
            if times and max(times) > drill.target_at + SENTINEL_PATIENCE:
                raise Permanent(f"It holds an order of {moment(max(times))}, later than the time restored to.")
            words.append(f"The newest order is of {moment(max(times))}." if times else "There are no orders yet.")
            _compare_modules(drill, dict(facts.installed), words)


def _is_before_sentinels(drill: Drill) -> bool:
    """Tell whether a drill goes back to when sentinels had just been asked for: a later policy asks for none anew."""
    asked = BackupPolicy.objects.filter(environment=drill.environment_id, has_sentinel=True).order_by("version")
    return drill.target_at - asked.values_list("created_at", flat=True)[0] <= SENTINELS_BEGIN_WITHIN


def _compare_modules(drill: Drill, found: Mapping[str, str], words: list[str]) -> None:
    """Modules may have been upgraded since the point was made, so only a point's own moment is compared."""
    if drill.target_at == drill.point.consistent_at and drill.point.modules and found != drill.point.modules:
        changed = sorted(set(found.items()) ^ set(drill.point.modules.items()))
        raise Permanent(
            f"The modules are not those recorded: {', '.join(sorted({name for name, _ in changed})[:NAMED])}."
        )
    words.append(f"Installed: {counted(len(found), 'module')}.")


def _question_attachments(drill: Drill, bench: Bench, checks: Checks, *, server: Server) -> None:
    url = server.url_of(database_at(drill.environment, drill.target_at))
    copy = copy_for(drill.point, drill.target_at)
    lost: list[str] = []
    with checks.asking("Every attachment, by its SHA-1", 3) as words:
        named = {one.name for one in observe_attachments(url)}
        if copy is None:
            if named:
                raise Permanent(f"The database names {len(named):,} attachments, and none are copied.")
            words.append("The database names no attachment.")
            return
        with observing():
            read = attachments.archive_of(bench.policy, bench.store).observe_contents(
                attachments.point_of(copy), identity=bench.identities[0], named=named
            )
        lost = [one.sentence for one in read.findings if one.kind is FindingKind.LOST]
        _refuse([one.sentence for one in read.findings if one.kind is not FindingKind.LOST])
        words.append(f"Named by the database and with the content their name says: {counted(read.file_count, 'file')}.")
    if lost:
        sentence = f"The shop itself had lost {counted(len(lost), 'attachment')} when they were copied. {_first(lost)}"
        checks.note(LOST, 3, is_passed=False, is_about_copy=False, sentence=sentence)


def _question_odoo(drill: Drill, bench: Bench, checks: Checks, *, server: Server, sandbox: Sandbox) -> None:
    """Level 4: Odoo boots on the neutralised copy and sells something."""
    database = database_at(drill.environment, drill.target_at)
    url = server.url_of(database)
    begin_altering(server, database=database)
    bench.saying.say("Starting Odoo on the copy.")
    ensure_neutralised(url, run_id=bench.run_id, folder=sandbox.folder)
    filestore = sandbox.folder / "filestore"
    if (copy := copy_for(drill.point, drill.target_at)) is not None:
        named = {one.name for one in observe_attachments(url)}
        attachments.archive_of(bench.policy, bench.store).ensure_restored(
            attachments.point_of(copy), target=filestore, identity=bench.identities[0], named=named
        )
    else:
        filestore.mkdir()
    for one in run_odoo_checks(database_url=url, filestore=filestore, folder=sandbox.folder, run_id=bench.run_id):
        checks.note(one.name, one.level, is_passed=one.is_passed, sentence=one.sentence)


def _refuse(sentences: Sequence[str]) -> None:
    if sentences:
        raise Permanent(_first(sentences))


def _first(sentences: Sequence[str]) -> str:
    more = f" And {len(sentences) - NAMED} more." if len(sentences) > NAMED else ""
    return " ".join(sentences[:NAMED]) + more
