"""Loading an estate file: everything in it or nothing, and every problem with the line it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.estate import KINDS, save_estate
from changecontrol.actions.people import username_problem
from changecontrol.errors import Invalid
from changecontrol.events import Tag
from changecontrol.models import Environment, Tenant, User
from changecontrol.rules.roles import Role
from changecontrol.rules.years import OUTSIDE, is_within_years

SECTIONS = {
    "regions": "region",
    "cohorts": "cohort",
    "stores": "store",
    "sources": "source",
    "processes": "process",
    "environments": "environment",
}
"""The lists of a tenant, in the order in which they refer to one another."""
_PERSON = frozenset({"username", "name", "email", "zone", "roles"})
_GRANT = frozenset({"role", "tenant", "environment", "expires_at"})
MAX_CHARACTERS = 5_000_000
MAX_DEPTH = 10


@dataclass(frozen=True, slots=True, order=True)
class LineProblem:
    """What is wrong, and where: lines count from 1."""

    line: int
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


class FileRefused(Exception):
    """Nothing was loaded. `problems` are in the order of the file."""

    def __init__(self, problems: list[LineProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in sorted(problems)))
        self.problems = sorted(problems)


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many things and people were made, changed, and found as they are."""

    made: int
    changed: int
    unchanged: int


def load_estate(text: str, *, actor: Actor, at: datetime) -> Loaded:
    """Make the estate what the file says; what the file does not name stays. The same file again changes nothing.

    Raises `FileRefused` with every problem found, after which nothing of the file is there.
    """
    document = _read(text)
    loader = _Loader(actor, at)
    with transaction.atomic():
        loader.load(document)
        if loader.problems:
            raise FileRefused(loader.problems)
    return Loaded(made=loader.made, changed=loader.changed, unchanged=loader.unchanged)


def _read(text: str) -> CommentedMap:
    if len(text) > MAX_CHARACTERS:
        raise FileRefused([LineProblem(1, f"The file has more than {MAX_CHARACTERS:,} characters.")])
    try:
        _refuse_tricks(text)
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise FileRefused([LineProblem(line, f"This is not YAML: {error.problem}.")]) from None
    except (YAMLError, ValueError) as error:
        raise FileRefused([LineProblem(1, f"This is not YAML: {error}.")]) from None
    if not isinstance(document, CommentedMap):
        raise FileRefused([LineProblem(1, "An estate file has “people”, “clusters” and “tenants”.")])
    return document


def _refuse_tricks(text: str) -> None:
    """Raise `FileRefused` at the first thing that an estate never needs, before anything is built of it.

    References let a page of text stand for more than memory holds; tags ask for objects; and nothing here is deep.
    """
    depth = 0
    for event in YAML(typ="rt").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if sentence := _trick(event, depth=depth):
            raise FileRefused([LineProblem(event.start_mark.line + 1, sentence)])


def _trick(event: Any, *, depth: int) -> str:
    if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
        return "An estate file has no anchors and references (& and *): write it out."
    if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
        return "An estate file has no tags (!): write plain values."
    if depth > MAX_DEPTH:
        return "This is nested too deeply."
    if isinstance(event, ScalarEvent) and any(one == "\0" or "\ud800" <= one <= "\udfff" for one in event.value):
        return "Text cannot hold the character U+0000 or half of a surrogate pair."
    return ""


class _Loader:
    """Walks one document, counting what it does and collecting what is wrong."""

    def __init__(self, actor: Actor, at: datetime) -> None:
        self.actor = actor
        self.at = at
        self.problems: list[LineProblem] = []
        self.made = self.changed = self.unchanged = 0
        self._lines: dict[tuple[str, int | None, str], int] = {}

    def load(self, document: CommentedMap) -> None:
        self._check_keys(document, frozenset({"people", "clusters", "tenants"}), what="An estate file")
        people = list(self._items(document, "people"))
        for one in people:
            self._person(one)
        for one in self._items(document, "clusters"):
            self._save("cluster", one, answers=_plain(one), tenant_id=None)
        for one in self._items(document, "tenants"):
            self._tenant(one)
        for one in people:
            for row in self._items(one, "roles"):
                self._grant(one, row)

    def _tenant(self, one: CommentedMap) -> None:
        own = {key: value for key, value in _plain(one).items() if key not in SECTIONS}
        tenant = self._save("tenant", one, answers=own, tenant_id=None)
        if tenant is None:
            return
        for section, kind in SECTIONS.items():
            for row in self._items(one, section):
                self._save(kind, row, answers=_plain(row), tenant_id=tenant.pk)

    def _save(self, kind: str, one: CommentedMap, *, answers: dict[str, Any], tenant_id: int | None) -> Any:
        if not self._is_first(kind, one, key=KINDS[kind].key, tenant_id=tenant_id):
            return None
        try:
            saved = save_estate(actor=self.actor, kind=kind, answers=answers, tenant_id=tenant_id, at=self.at)
        except Invalid as error:
            self._add(error, one)
            return None
        self._count(is_new=saved.is_new, is_changed=bool(saved.differences))
        return saved.thing

    def _person(self, one: CommentedMap) -> None:
        self._check_keys(one, _PERSON, what="A person")
        username = one.get("username")
        if not isinstance(username, str) or not username:
            self._problem(one, "username", "A person needs a username.")
            return
        if not self._is_first("person", one, key="username", tenant_id=None):
            return
        person = User.objects.filter(username=username).first()
        if person is None and (sentence := username_problem(username)):
            self._problem(one, "username", sentence)
            return
        is_new = person is None
        person = person or User(username=username)
        if person.is_system:
            self._problem(one, "username", "This name is the platform's own.")
            return
        asked = {"display_name": one.get("name", ""), "email": one.get("email", ""), "zone": one.get("zone", "UTC")}
        wanted = {name: str(value) for name, value in asked.items()}
        before = {} if is_new else {name: getattr(person, name) for name in wanted}
        for name, value in wanted.items():
            setattr(person, name, value)
        if is_new:
            person.set_unusable_password()  # the file holds no secret; an administrator sets the first one
        try:
            person.full_clean()
        except ValidationError as error:
            names = {"display_name": "name"}
            fields = {names.get(key, key): [str(each) for each in found] for key, found in error.message_dict.items()}
            self._add(Invalid("", fields=fields), one)
            return
        differences = {key: [before.get(key), value] for key, value in wanted.items() if before.get(key) != value}
        if differences:
            person.save()
            data = {"kind": "person", "key": username, "is_new": is_new, "differences": differences}
            audit.record(Tag.ESTATE_CHANGED, subject=person, actor=self.actor, at=self.at, data=data)
        self._count(is_new=is_new, is_changed=bool(differences))

    def _grant(self, one: CommentedMap, row: CommentedMap) -> None:
        self._check_keys(row, _GRANT, what="A role")
        person = User.objects.filter(username=one.get("username")).first()
        tenant = Tenant.objects.filter(slug=row.get("tenant")).first()
        role = row.get("role")
        if not isinstance(role, str) or role not in set(Role) or role == Role.PLATFORM_ADMINISTRATOR:
            self._problem(row, "role", f"“{role}” is no role that can be granted on a tenant.")
        if tenant is None:
            self._problem(row, "tenant", f"There is no tenant called “{row.get('tenant')}”.")
        thing: Tenant | Environment | None = tenant
        if "environment" in row:
            thing = Environment.objects.filter(tenant=tenant, slug=row["environment"]).first()
            if thing is None:
                self._problem(row, "environment", f"There is no environment called “{row['environment']}” there.")
        expires_at = self._moment(row, "expires_at")
        if person is None or tenant is None or thing is None or self.problems:
            return
        chosen = Role(str(role))
        held = access.grant_of(person, chosen, thing)
        if held is not None and held.expires_at == expires_at:
            self._count(is_new=False, is_changed=False)
            return
        access.grant_role(person, chosen, thing, expires_at=expires_at)
        data = {
            "person": person.username,
            "role": str(chosen),
            "on": audit.subject_of(thing),
            "slug": thing.slug,
            "expires_at": expires_at.isoformat() if expires_at else "",
        }
        audit.record(Tag.ROLE_GRANTED, subject=person, actor=self.actor, at=self.at, data=data, tenant=tenant)
        self._count(is_new=held is None, is_changed=True)

    def _moment(self, row: CommentedMap, key: str) -> datetime | None:
        value = row.get(key)
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value.isoformat() if isinstance(value, date) else str(value))
        except ValueError:
            self._problem(row, key, "Write a time with its offset, such as 2027-01-31T18:00:00+01:00.")
            return None
        if not is_within_years(found):
            self._problem(row, key, OUTSIDE)
            return None
        # As UTC: PostgreSQL knows no offset of 16 hours or more.
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)

    def _items(self, one: CommentedMap, key: str) -> Iterator[CommentedMap]:
        rows = one.get(key)
        if rows is None:
            return
        if not isinstance(rows, CommentedSeq):
            self._problem(one, key, f"“{key}” is a list.")
            return
        for index, row in enumerate(rows):
            if isinstance(row, CommentedMap):
                yield row
            else:
                self.problems.append(LineProblem(rows.lc.item(index)[0] + 1, f"An entry of “{key}” has named fields."))

    def _is_first(self, kind: str, one: CommentedMap, *, key: str, tenant_id: int | None) -> bool:
        """Say so where a thing stands twice in the file: whichever came last would win, each time anew."""
        name = one.get(key)
        if not isinstance(name, str):
            return True
        line = self._lines.get((kind, tenant_id, name))
        if line is None:
            self._lines[kind, tenant_id, name] = one.lc.line + 1
            return True
        self._problem(one, key, f"The {kind} “{name}” stands on line {line} already.")
        return False

    def _check_keys(self, one: CommentedMap, known: frozenset[str], *, what: str) -> None:
        for key in one:
            if key not in known:
                self._problem(one, key, f"{what} has no field called {key}.")

    def _add(self, error: Invalid, one: CommentedMap) -> None:
        for name, sentences in error.fields.items():
            for sentence in sentences:
                self._problem(one, name, f"{name}: {sentence}")
        if not error.fields:
            self._problem(one, None, error.sentence)

    def _problem(self, one: CommentedMap, key: Any, sentence: str) -> None:
        line = one.lc.key(key)[0] if key in one else one.lc.line
        self.problems.append(LineProblem(line + 1, sentence))

    def _count(self, *, is_new: bool, is_changed: bool) -> None:
        if is_new:
            self.made += 1
        elif is_changed:
            self.changed += 1
        else:
            self.unchanged += 1


def _plain(value: Any) -> Any:
    """Return what ruamel read as plain values."""
    if isinstance(value, CommentedMap):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return repr(float(value))  # a decimal share, not a binary one
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
