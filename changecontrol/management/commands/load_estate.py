"""`manage.py load_estate FILE`: the estate, people and roles from YAML, all of it or nothing (docs/estate-file.md)."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from changecontrol import access, clock
from changecontrol.actions.estate_file import FileRefused, load_estate
from changecontrol.models import User


class Command(BaseCommand):
    help = "Make the estate what a YAML file says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the path of the file, or - for standard input")
        parser.add_argument("--as", dest="username", default="", help="the platform administrator in whose name")

    def handle(self, *_: Any, file: str, username: str, **__: Any) -> None:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}.") from None
        try:
            loaded = load_estate(text, actor=_actor(username), at=clock.now())
        except FileRefused as refused:
            lines = "\n".join(f"{file}:{one.line}: {one.sentence}" for one in refused.problems)
            raise CommandError(f"Nothing was loaded.\n{lines}") from None
        self.stdout.write(f"{loaded.made} made, {loaded.changed} changed, {loaded.unchanged} unchanged.")


def _actor(username: str) -> access.Actor:
    """Return the administrator named, or whoever runs the command, who may do anything here anyway."""
    if not username:
        return access.operator_actor()
    person = User.objects.filter(username=username, is_superuser=True, is_active=True).first()
    if person is None:
        raise CommandError(f"There is no platform administrator called “{username}”.")
    return access.Actor(user=person, via="command")
