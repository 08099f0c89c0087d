"""Sends the outbox's messages by e-mail.

A message is sent at least once: mail has no way to ask whether one has arrived, so a worker that dies between the
server's yes and the settling transaction sends again. Both copies carry one Message-ID, by which mail programs show
them as one. What cannot be sent stays in the inbox of the page, with the problem noted.
"""

from __future__ import annotations

import smtplib
from datetime import datetime, timedelta
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Q
from django.utils.crypto import salted_hmac

from changecontrol.errors import Permanent, Transient
from changecontrol.models import IdempotencyKey, Message
from changecontrol.workflow.engine import Settlement, confirm_lease
from changecontrol.workflow.rows import lock_row

KEEP_TRYING_FOR = timedelta(days=1)
LOOK_AGAIN_IN = timedelta(minutes=15)
ANSWERS_KEPT_FOR = timedelta(days=1)
"""How long the answer to an `Idempotency-Key` is told again; the API counts on it too."""
ANSWERS_PER_SWEEP = 1000


class Delivery:
    """The workflow `delivery`: one step, from due to sent."""

    name = "delivery"
    model = Message

    def due(self) -> Q:
        return Q(sent_at__isnull=True)

    def find(self, at: datetime) -> None:
        """Find nothing, since `outbox.post` writes rows that are due already; but let go of answers kept for a day."""
        old = IdempotencyKey.objects.filter(created_at__lte=at - ANSWERS_KEPT_FOR).order_by("created_at")
        IdempotencyKey.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:ANSWERS_PER_SWEEP])).delete()

    def lock(self, pk: int) -> Message:
        return lock_row(Message, pk)

    def advance(self, row: Message, at: datetime) -> Settlement[Message]:
        if not row.recipient.is_active or not row.recipient.email:
            raise Permanent("The recipient has left or has no address.")
        mail = compose(row)
        confirm_lease(row)
        _send(mail)

        def note_sent(message: Message) -> None:
            message.sent_at = at
            message.problem = ""
            message.save(update_fields=["sent_at", "problem"])

        return Settlement(write=note_sent, due_in=None)

    def refused(self, row: Message, reason: str, at: datetime) -> Settlement[Message]:
        return Settlement(write=lambda message: _note_problem(message, reason), due_in=None)

    def exhausted(self, row: Message, reason: str, at: datetime) -> Settlement[Message]:
        """Go on slowly for a day, since mail servers come back; then leave it to the inbox."""
        due_in = LOOK_AGAIN_IN if at - row.created_at < KEEP_TRYING_FOR else None
        return Settlement(write=lambda message: _note_problem(message, reason), due_in=due_in)


def compose(row: Message) -> EmailMessage:
    """Build the mail: the message's own words, and a link to where it can be acted upon."""
    host = urlsplit(settings.BASE_URL).hostname or "localhost"
    # Derived, not counted: a running number would tell every recipient how many messages all tenants get.
    key = salted_hmac("changecontrol.message", str(row.pk), algorithm="sha256").hexdigest()[:32]
    lines = [row.text.strip()]
    if row.path:
        lines.append(urljoin(settings.BASE_URL, row.path))
    return EmailMessage(
        # A title with a line break must not become a header of its own.
        subject=" ".join(row.subject.split()),
        body="\n\n".join(lines) + "\n",
        to=[row.recipient.email],
        headers={"Message-ID": f"<{key}@{host}>", "Auto-Submitted": "auto-generated"},
    )


def _send(mail: EmailMessage) -> None:
    """Hand a mail to the mail server. Raises `Permanent` where it refuses this mail, `Transient` for anything else."""
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as refusal:
        code = max((code for code, _ in refusal.recipients.values()), default=450)
        raise _problem("The mail server refused the recipient", code) from None
    except smtplib.SMTPDataError as refusal:
        raise _problem("The mail server refused the message", refusal.smtp_code) from None
    except smtplib.SMTPResponseException as refusal:
        # Sign-in, greeting, sender: our configuration, which a person can mend while the message waits.
        raise Transient(f"The mail server refused our connection ({refusal.smtp_code}).") from None
    except (smtplib.SMTPException, OSError) as trouble:
        raise Transient(f"The mail server did not answer ({type(trouble).__name__}).") from None


def _problem(sentence: str, code: int) -> Permanent | Transient:
    return Permanent(f"{sentence} ({code}).") if 500 <= code <= 599 else Transient(f"{sentence} for now ({code}).")


def _note_problem(message: Message, reason: str) -> None:
    message.problem = reason[:300]
    message.save(update_fields=["problem"])
