"""What a drill of level 5 does with a copy: put it where the workloads of another cluster find it, and take it away.

The database and the folder made there carry the mark of their drill, and nothing without it is removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from changecontrol.errors import Hindered, Permanent
from changecontrol.models import Cluster
from changecontrol.rules.counting import counted
from changecontrol.rules.rehearsals import refusal_of_place
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.odoo import ensure_neutralised, observe_neutralised, observe_odoo
from recovery.adapters.postgres.programs import connected, one_row
from recovery.adapters.postgres.sandbox import Sandbox, tear_down
from recovery.jobs import attachments
from recovery.jobs.copies import Bench
from recovery.jobs.recovered import Server
from recovery.jobs.restore import check_free, ensure_no_copy, place_copy
from recovery.models import BackupPolicy, Drill
from recovery.queries.attachments import copy_for
from recovery.rules.levels import NO_CLUSTER
from recovery.rules.verification import ELSEWHERE

SERVER = "server of databases in another cluster"
NAMED = 3


def check_before(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Look at where a copy would go before an operator recovers it. The order: `drill`."""
    check_place(Drill.objects.select_related("environment", "point").get(pk=order["drill"]))
    return {}


def check_place(drill: Drill) -> None:
    """Raise `Hindered` before hours of work where the copy could not go, or must not: nothing in use is touched."""
    cluster = Cluster.objects.filter(slug=_policy_of(drill).rehearsal_cluster).first()
    if cluster is None:
        raise Hindered(NO_CLUSTER)
    if refusal := refusal_of_place(cluster_id=cluster.pk, own_cluster_id=drill.environment.cluster_id):
        raise Hindered(refusal)
    target, name, folder = _target_of(drill), _name_of(drill), _folder_of(drill)
    try:
        check_free(target, name=name, mark=_mark_of(drill))
    except Permanent as trouble:
        raise Hindered(trouble.reason) from None
    with connected(target) as connection:
        (found,) = one_row(connection, "SELECT system_identifier FROM pg_control_system()")
    # On its own server its own name is free only while the shop is down, and then it is wanted there.
    if str(found) == drill.point.system_identifier and name == drill.environment.database:
        raise Hindered(f"That is the server which “{name}” runs on: name another server, or another name there.")
    if folder is not None:
        _check_folder(drill, folder)


def _check_folder(drill: Drill, folder: Path) -> None:
    if folder.exists() and not _is_ours(drill, folder):
        raise Hindered(f"There is a folder {folder} already, and it stays as it is.")


def place(drill: Drill, bench: Bench, *, server: Server, database: str, sandbox: Sandbox) -> str:
    """Make the copy harmless, and move it to the server that the workloads elsewhere use; return what is there."""
    url = server.url_of(database)
    if observe_odoo(url) is not None:
        bench.saying.say("Making the copy harmless.")
        ensure_neutralised(url, run_id=bench.run_id, folder=sandbox.folder)
    bench.saying.say("Moving the database to the other cluster.")
    tables, rows = place_copy(
        url,
        dumping_url=server.superuser_url_of(database),
        target=_target_of(drill),
        name=_name_of(drill),
        mark=_mark_of(drill),
        programs=server.programs,
        sandbox=sandbox,
    )
    files = _place_attachments(drill, bench)
    odoo = "" if settings.ODOO_COMMAND else " Odoo was not started on the copy first: this installation has none."
    return f"“{_name_of(drill)}” has {tables:,} tables with {rows:,} rows, neutralised{files}.{odoo}"


def question_copy(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Ask the database that workloads elsewhere run on, once they are up. The order: `drill`. Returns `checks`."""
    drill = Drill.objects.select_related("environment").get(pk=order["drill"])
    url = doors.url_of(_target_of(drill), database=_name_of(drill))
    facts = observe_odoo(url)
    if facts is None:
        return {"checks": []}
    left = sorted(module.name for module in facts.modules if module.is_left_over)
    more = f", and {len(left) - NAMED} more" if len(left) > NAMED else ""
    modules = f"{counted(len(facts.installed), 'module')} installed, and none left to upgrade."
    if left:
        modules = f"Left to be installed, upgraded or removed: {', '.join(left[:NAMED])}{more}."
    findings = [one.sentence for one in observe_neutralised(url)]
    return {
        "checks": [
            {"name": "Modules elsewhere", "is_passed": not left, "sentence": modules},
            {
                "name": "Harmless elsewhere",
                "is_passed": not findings,
                "sentence": " ".join(findings[:NAMED]) or "With workloads on it, it is neutralised as it was.",
            },
        ]
    }


def clear_copy(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Remove what was placed for a drill, and the sandbox of a canceled one, if it is there. The order: `drill`."""
    drill = Drill.objects.select_related("environment").get(pk=order["drill"])
    run_id = str(drill.key)
    if drill.canceled_at is not None and (Path(settings.RECOVERY_SANDBOXES) / run_id).exists():
        # Its process was ended before it could.
        tear_down(doors.sandboxes(), run_id=run_id)
    if drill.level < ELSEWHERE:
        return {}
    ensure_no_copy(_target_of(drill), name=_name_of(drill), mark=_mark_of(drill), run_id=run_id)
    if (folder := _folder_of(drill)) is not None:
        _ensure_no_folder(drill, folder)
    return {}


def _place_attachments(drill: Drill, bench: Bench) -> str:
    """Bring the attachments that go with the time to where workloads elsewhere find them; return what to say."""
    folder, copy = _folder_of(drill), copy_for(drill.point, drill.target_at)
    if folder is None or copy is None:
        return ""
    _check_folder(drill, folder)
    # Of an attempt that was killed.
    _ensure_no_folder(drill, folder)
    bench.saying.say("Bringing attachments to the other cluster.", total_bytes=copy.byte_count)
    working = _working(drill, folder)
    read = attachments.archive_of(bench.policy, bench.store).ensure_restored(
        attachments.point_of(copy), target=working, identity=bench.identities[0]
    )
    if read.findings:
        raise Permanent(" ".join(one.sentence for one in read.findings[:3]))
    try:
        (working / attachments.MARK).write_text(str(drill.key))
        working.rename(folder)
    except OSError as error:
        raise Permanent(f"The attachments cannot be put at {folder}: {error.strerror}.") from None
    return f", and {counted(read.file_count, 'attachment')} beside it"


def _ensure_no_folder(drill: Drill, folder: Path) -> None:
    for one in (_working(drill, folder), folder):
        if one == folder and not _is_ours(drill, folder):
            continue
        try:
            shutil.rmtree(one)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Permanent(f"The folder {one} cannot be removed: {error.strerror}.") from None


def _is_ours(drill: Drill, folder: Path) -> bool:
    mark = folder / attachments.MARK
    return mark.is_file() and mark.read_text() == str(drill.key)


def _working(drill: Drill, folder: Path) -> Path:
    """Return where attachments are brought first: a folder beside the final one, with the run's id in its name."""
    return folder.with_name(f".{folder.name}.{drill.key}")


def _folder_of(drill: Drill) -> Path | None:
    address = _policy_of(drill).rehearsal_filestore
    return doors.folder_at(address) / _name_of(drill) if address else None


def _policy_of(drill: Drill) -> BackupPolicy:
    """Return the policy in force when the drill began."""
    return BackupPolicy.objects.get(pk=drill.data["policy"])


def _target_of(drill: Drill) -> str:
    return doors.read_secret(_policy_of(drill).rehearsal_target, what=SERVER)


def _name_of(drill: Drill) -> str:
    return str(_policy_of(drill).rehearsal_database or drill.environment.database)


def _mark_of(drill: Drill) -> str:
    return f"changecontrol drill {drill.key}"
