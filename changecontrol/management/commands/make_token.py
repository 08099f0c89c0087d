"""`manage.py make_token USER`: an API token for somebody, its secret printed once."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from changecontrol import access, clock
from changecontrol.actions.tokens import create_token
from changecontrol.errors import DomainError, Invalid
from changecontrol.models import User


class Command(BaseCommand):
    help = "Make an API token for a person and print its secret, which is kept nowhere and cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="made on the command line", help="What it is for.")
        parser.add_argument("--days", type=int, default=30, help="How long it holds; 30 unless told, at most 366.")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            metavar="ABILITY",
            help="An ability it is limited to, such as change.create; repeat for several. None: all the person has.",
        )

    def handle(self, *_: Any, username: str, name: str, days: int, scope: list[str], **__: Any) -> None:
        person = User.objects.filter(username=username, is_active=True, is_system=False).first()
        if person is None:
            raise CommandError(f"There is no active person called “{username}”.")
        at = clock.now()
        # The token is the person's own; the trail says that it was made at the command line.
        actor = replace(access.system_actor(), user=person, via="command")
        try:
            made = create_token(
                actor=actor, name=name, scopes=scope, expires_at=at + timedelta(days=min(days, 100_000)), at=at
            )
        except Invalid as problem:
            raise CommandError(" ".join(one for sentences in problem.fields.values() for one in sentences)) from problem
        except DomainError as problem:
            raise CommandError(problem.sentence) from problem
        self.stderr.write(f"{made.token} for {person.username}, until {made.token.expires_at:%d %b %Y %H:%M} UTC.")
        self.stdout.write(made.secret)
