"""Words to people: in the inbox at once, by mail through the delivery workflow, never for work that was rolled back."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from changecontrol import clock, outbox
from changecontrol.models import Message, User
from changecontrol.workflow import engine
from changecontrol.workflow.delivery import KEEP_TRYING_FOR, Delivery, compose
from tests.changecontrol.workflow.toy import claim_one
from tests.plugin import TestDatabase

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


class RefusingServer(BaseEmailBackend):
    """Answers as a mail server does that does not take the message."""

    answer: Exception

    def send_messages(self, email_messages: Any) -> int:
        raise self.answer


@pytest.fixture(autouse=True)
def host_clock() -> Iterator[None]:
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


@pytest.fixture
def ben(db: None) -> User:
    return User.objects.create_user("ben", email="ben@northwind.example")


def post(*people: User, subject: str = "CHG-000012 waits for you", at: datetime = AT) -> None:
    with transaction.atomic():
        outbox.post(
            to=people, tag="approval:asked", subject=subject, text="Ada asks for your vote.", at=at, path="/changes/12/"
        )


def deliver() -> int:
    return engine.drain(Delivery(), budget_seconds=10)


def test_a_message_is_in_the_inbox_and_is_sent_once(ben: User) -> None:
    post(ben)

    assert Message.objects.filter(recipient=ben, read_at=None).count() == 1
    assert (deliver(), deliver()) == (1, 0)
    (sent,) = mail.outbox
    assert (sent.to, sent.subject) == (["ben@northwind.example"], "CHG-000012 waits for you")
    assert sent.body == "Ada asks for your vote.\n\nhttp://127.0.0.1:8000/changes/12/\n"
    stored = Message.objects.get()
    assert (stored.next_due_at, stored.problem, stored.lease_token) == (None, "", None)
    assert stored.sent_at is not None


def test_each_person_is_told_once_and_machines_never(ben: User) -> None:
    robot = User.objects.create_user("robot", email="robot@northwind.example", is_system=True)
    gone = User.objects.create_user("gone", email="gone@northwind.example", is_active=False)

    post(ben, ben, robot, gone)

    assert [message.recipient for message in Message.objects.all()] == [ben]


def test_whoever_has_no_address_finds_it_in_the_inbox_alone(db: None) -> None:
    post(User.objects.create_user("cy"))

    assert deliver() == 0
    assert Message.objects.get().next_due_at is None


def test_whoever_left_meanwhile_is_not_written_to(ben: User) -> None:
    post(ben)
    User.objects.update(is_active=False)

    deliver()

    assert mail.outbox == []
    assert Message.objects.get().problem == "The recipient has left or has no address."


def test_nothing_is_sent_for_work_that_was_rolled_back(fresh_db: TestDatabase) -> None:
    ben = User.objects.create_user("ben", email="ben@northwind.example")

    with pytest.raises(RuntimeError, match="the cause failed"), transaction.atomic():
        outbox.post(to=[ben], tag="approval:asked", subject="Never", text="Never.", at=AT)
        raise RuntimeError("the cause failed")

    assert deliver() == 0
    assert (Message.objects.count(), mail.outbox) == (0, [])


def test_a_message_outside_a_transaction_is_refused(fresh_db: TestDatabase) -> None:
    ben = User.objects.create_user("ben", email="ben@northwind.example")

    with pytest.raises(RuntimeError, match="outside a transaction"):
        outbox.post(to=[ben], tag="approval:asked", subject="Never", text="Never.", at=AT)

    assert Message.objects.count() == 0


def test_a_repeated_mail_carries_the_same_message_id_and_no_running_number(ben: User) -> None:
    post(ben)
    post(ben)
    first, second = Message.objects.order_by("pk")

    ids = [compose(row).extra_headers["Message-ID"] for row in (first, first, second)]

    assert ids[0] == ids[1] != ids[2]
    assert ids[0].endswith("@127.0.0.1>")
    assert f"<{first.pk}" not in ids[0]


def test_a_worker_that_ended_before_settling_repeats_the_mail_recognisably(ben: User) -> None:
    post(ben)
    workflow = Delivery()
    claimed = claim_one(workflow, at=clock.now())
    assert claimed is not None
    workflow.advance(claimed.row, clock.now())  # and the process is gone

    clock.set_offset(timedelta(seconds=engine.LEASE_SECONDS + 1))
    deliver()

    assert len(mail.outbox) == 2
    assert len({message.extra_headers["Message-ID"] for message in mail.outbox}) == 1


def test_a_line_break_in_a_title_makes_no_header(ben: User) -> None:
    post(ben, subject="Urgent\r\nBcc: eve@elsewhere.example")

    deliver()

    (sent,) = mail.outbox
    assert sent.subject == "Urgent Bcc: eve@elsewhere.example"
    assert sent.recipients() == ["ben@northwind.example"]


@pytest.fixture
def refusing(settings: Any) -> type[RefusingServer]:
    settings.EMAIL_BACKEND = f"{__name__}.RefusingServer"
    return RefusingServer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            smtplib.SMTPRecipientsRefused({"ben": (550, b"no such user")}),
            "The mail server refused the recipient (550).",
        ),
        (smtplib.SMTPDataError(554, b"spam"), "The mail server refused the message (554)."),
    ],
)
def test_a_refused_mail_is_given_up_at_once(
    ben: User, refusing: type[RefusingServer], answer: Exception, problem: str
) -> None:
    refusing.answer = answer
    post(ben)

    deliver()

    stored = Message.objects.get()
    assert (stored.problem, stored.next_due_at, stored.sent_at) == (problem, None, None)


@pytest.mark.parametrize(
    "answer",
    [
        smtplib.SMTPRecipientsRefused({"ben": (450, b"greylisted")}),
        smtplib.SMTPDataError(451, b"try later"),
        smtplib.SMTPAuthenticationError(535, b"hunter2 is wrong"),
        smtplib.SMTPServerDisconnected("gone"),
        ConnectionRefusedError("refused"),
        TimeoutError("slow"),
    ],
)
def test_a_mail_server_that_cannot_now_is_asked_again(
    ben: User, refusing: type[RefusingServer], answer: Exception
) -> None:
    refusing.answer = answer
    post(ben)

    deliver()

    stored = Message.objects.get()
    assert (stored.attempts, stored.sent_at) == (1, None)
    assert stored.next_due_at is not None
    assert stored.next_due_at > clock.now()


def test_a_mail_server_may_be_away_for_most_of_a_day(ben: User, refusing: type[RefusingServer]) -> None:
    refusing.answer = smtplib.SMTPAuthenticationError(535, b"hunter2 is wrong")
    post(ben, at=clock.now())
    Message.objects.update(attempts=engine.ATTEMPTS_LIMIT - 1)

    deliver()
    waiting = Message.objects.get()
    Message.objects.update(
        attempts=engine.ATTEMPTS_LIMIT - 1, created_at=clock.now() - KEEP_TRYING_FOR, next_due_at=clock.now()
    )
    deliver()

    assert waiting.next_due_at is not None
    assert waiting.problem == "The mail server refused our connection (535)."
    assert Message.objects.get().next_due_at is None
