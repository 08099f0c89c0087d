"""The exact difference between two revisions: field by field, and the rendered manifests line by line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from django.conf import settings

from changecontrol import wiring
from changecontrol.actions.evidence import key_of
from changecontrol.errors import Permanent, Transient
from changecontrol.models import ChangeRequest, Plan, Revision
from changecontrol.rules.plan import Difference, differences
from changecontrol.views.plan_facts import indicator_facts
from changecontrol.views.wording import counted, words

CONTEXT_LINES = 3
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
MAX_FILES = 40
OPEN_FILES = 2
MAX_LINES = 600
UNTOLD = frozenset({"change", "revision", "format", "objects", "manifests_sha256", "targets", "content", "waves"})
"""Left out of the field table: shown elsewhere, or told by the manifests' own difference."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two revisions. `before` is None where there is nothing to compare with."""

    before: Revision | None
    after: Revision | None
    before_digest: str = ""
    after_digest: str = ""
    rows: tuple[dict[str, str], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    files_note: str = ""
    others: tuple[Revision, ...] = ()

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def heading(self) -> str:
        return f"Difference to revision {self.before.number}" if self.before else "Difference to what runs now"

    @property
    def aside(self) -> str:
        return counted(len(self.rows), "field differs", "fields differ") if self.before else self.files_note

    @property
    def first_files(self) -> tuple[dict[str, Any], ...]:
        return self.files[:OPEN_FILES]

    @property
    def other_files(self) -> tuple[dict[str, Any], ...]:
        return self.files[OPEN_FILES:]

    @property
    def before_label(self) -> str:
        return f"Revision {self.before.number}" if self.before else ""

    @property
    def after_label(self) -> str:
        return f"Revision {self.after.number}" if self.after else ""


def compare(change: ChangeRequest, *, against: int | None = None) -> Comparison:
    """Compare the current revision with an earlier one (by default the one before). Returns what there is."""
    revisions = list(change.revisions.order_by("number"))
    if not revisions:
        return Comparison(None, None)
    after = revisions[-1]
    earlier = revisions[:-1]
    before = next((one for one in earlier if one.number == against), earlier[-1] if earlier else None)
    plans: dict[int, Plan] = {}
    for plan in Plan.objects.filter(revision__in=[one for one in (before, after) if one]).order_by("id"):
        plan.revision = before if before and plan.revision_id == before.pk else after
        plans[plan.revision_id] = plan
    files, note = _manifests(plans.get(before.pk) if before else None, plans.get(after.pk))
    if before is None:
        return Comparison(None, after, files=files, files_note=note)
    old, new = _document(before, plans.get(before.pk)), _document(after, plans.get(after.pk))
    return Comparison(
        before,
        after,
        before_digest=plans[before.pk].digest if before.pk in plans else "",
        after_digest=plans[after.pk].digest if after.pk in plans else "",
        rows=tuple(_row(one) for one in differences(old, new)),
        files=files,
        files_note=note,
        others=tuple(one for one in reversed(earlier) if one.pk != before.pk),
    )


def _document(revision: Revision, plan: Plan | None) -> dict[str, Any]:
    """Return what is compared: the answers, and what they resolved to where both are known."""
    resolved = plan.content if plan else {}
    told = {key: value for key, value in resolved.items() if key not in UNTOLD}
    answers = _answers(revision.content)
    if watched := told.pop("thresholds", None) or answers.pop("indicators", None):
        answers.pop("indicators", None)
        told["indicators"] = {one.name: f"{one.limit}; {one.note}" for one in map(indicator_facts, watched)}
    if "images" in told:
        told["images"] = {str(one.get("workload", "")): str(one.get("image", "")) for one in told["images"]}
    return {**answers, **told}


def _answers(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value not in ("", None, [], {})}


def _row(one: Difference) -> dict[str, str]:
    before, after = _said(one.old, is_there=one.was_there), _said(one.new, is_there=one.is_there)
    return {"field": _short(one.label), "before": _short(before), "after": _short(after)}


def _short(text: str) -> str:
    """Shorten digests, which people compare by their ends; the plan itself holds them in full."""
    return DIGEST.sub(lambda found: f"{found[0][:8]}…{found[0][-4:]}", text)


def _said(value: Any, *, is_there: bool) -> str:
    if not is_there:
        return ""
    if isinstance(value, Mapping):
        return "; ".join(
            f"{words(key)} {_said(item, is_there=True)}" for key, item in value.items() if item not in ("", [], None)
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_said(item, is_there=True) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _manifests(before: Plan | None, after: Plan | None) -> tuple[tuple[dict[str, Any], ...], str]:
    """Compare what two plans render, or what the later one changes in what runs where there is no earlier."""
    if after is None or not after.manifests_sha256:
        return (), ""
    try:
        new = _stored(after.manifests_sha256)
        old = _stored(before.manifests_sha256) if before and before.manifests_sha256 else None
    except (Transient, Permanent, ValueError):
        return (), "The rendered manifests cannot be read now."
    left = _by_ref(old, "new") if old is not None else _by_ref(new, "old")
    right = _by_ref(new, "new")
    changed = [ref for ref in sorted(left.keys() | right.keys()) if left.get(ref) != right.get(ref)]
    files = tuple(_file(ref, left.get(ref), right.get(ref)) for ref in changed[:MAX_FILES])
    against = f"revision {before.revision.number}" if old is not None and before else "what runs now"
    rest = f"; the first {MAX_FILES} are shown" if len(changed) > MAX_FILES else ""
    many = counted(len(changed), "object differs", "objects differ") if changed else "no object differs"
    return files, f"{many} from {against}{rest}"


def _stored(sha256: str) -> Any:
    data = wiring.adapter("object_store")(settings.OBJECT_STORE_URL).observe_object(key_of(sha256))
    if data is None:
        raise ValueError(sha256)
    return json.loads(data)


def _by_ref(stored: Any, side: str) -> dict[str, Any]:
    """Return the objects of one side by where and what they are."""
    found = {}
    for environment, sides in stored.items():
        for one in sides.get(side, ()):
            metadata = one.get("metadata") or {}
            found[f"{environment}/{one.get('kind', '')}/{metadata.get('name', '')}"] = one
    return found


def _file(ref: str, before: Any, after: Any) -> dict[str, Any]:
    left, right = _lines(before), _lines(after)
    added, removed = 0, 0
    rows: list[dict[str, Any]] = []
    for group in difflib.SequenceMatcher(None, left, right, autojunk=False).get_grouped_opcodes(CONTEXT_LINES):
        first = group[0]
        rows.append({"kind": "hunk", "text": f"from line {first[3] + 1}"})
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                rows += [
                    {"kind": "same", "old": i + 1, "new": j + 1, "text": left[i]}
                    for i, j in zip(range(i1, i2), range(j1, j2), strict=True)
                ]
                continue
            rows += [{"kind": "del", "old": i + 1, "new": "", "text": left[i]} for i in range(i1, i2)]
            rows += [{"kind": "ins", "old": "", "new": j + 1, "text": right[j]} for j in range(j1, j2)]
            removed, added = removed + i2 - i1, added + j2 - j1
    return {"path": ref, "rows": rows, "summary": f"{counted(added, 'line')} added, {removed} removed"}


def _lines(manifest: Any) -> list[str]:
    if manifest is None:
        return []
    lines = yaml.safe_dump(manifest, sort_keys=True, allow_unicode=True, width=120).splitlines()
    if len(lines) > MAX_LINES:
        return [*lines[:MAX_LINES], f"… and {len(lines) - MAX_LINES} more lines"]
    return lines
