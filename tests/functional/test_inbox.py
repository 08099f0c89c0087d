"""The inbox: one's own messages and nobody else's."""

from __future__ import annotations

import pytest
from django.urls import reverse

from changecontrol.models import Message
from tests.factories import authorized_change

pytestmark = pytest.mark.django_db


def test_inbox_shows_ones_own_messages_and_counts_the_unread(estate, signed_in) -> None:
    change = authorized_change(estate)

    cy, ben = (signed_in(person).get(reverse("inbox")) for person in (estate.cy, estate.ben))

    assert f"{change.number} needs your decision" in cy.text
    assert cy.context["title"] == "1 unread"
    assert "needs your decision" not in ben.text
    assert "You were told nothing yet." in ben.text


def test_opening_a_message_marks_it_read_and_goes_there(estate, signed_in) -> None:
    change = authorized_change(estate)
    message = Message.objects.get(recipient=estate.cy)

    answer = signed_in(estate.cy).post(
        reverse("inbox-read"), {"message": message.pk, "next": change.get_absolute_url()}
    )

    assert answer.url == change.get_absolute_url()
    assert Message.objects.get(pk=message.pk).read_at is not None


def test_nobody_reads_for_somebody_else_or_is_sent_elsewhere(estate, signed_in) -> None:
    authorized_change(estate)
    message = Message.objects.get(recipient=estate.cy)

    answer = signed_in(estate.ben).post(
        reverse("inbox-read"), {"message": message.pk, "next": "https://elsewhere.example/"}
    )

    assert answer.url == reverse("inbox")
    assert Message.objects.get(pk=message.pk).read_at is None


def test_all_are_marked_at_once(estate, signed_in) -> None:
    authorized_change(estate)
    authorized_change(estate)

    signed_in(estate.cy).post(reverse("inbox-read"))

    assert not Message.objects.filter(recipient=estate.cy, read_at__isnull=True).exists()
