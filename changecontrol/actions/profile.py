"""What a person says about themselves."""

from __future__ import annotations

import zoneinfo
from datetime import datetime

from django.db import transaction

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.errors import Invalid
from changecontrol.events import Tag
from changecontrol.models import User


@transaction.atomic
def set_zone(*, actor: Actor, zone: str, at: datetime) -> User:
    """Choose the zone in which one's pages show times, and which one's votes name (APR-7). Stored times do not change.

    Raises `Invalid`. The zone one has already leaves no event.
    """
    if zone not in zoneinfo.available_timezones():
        sentence = "Choose a time zone of the list."
        raise Invalid(sentence, fields={"zone": [sentence]})
    person = User.objects.select_for_update().get(pk=actor.person.pk)
    if person.zone == zone:
        return person
    data = {"zone": [person.zone, zone]}
    person.zone = zone
    person.save(update_fields=["zone"])
    audit.record(Tag.PROFILE_CHANGED, subject=person, actor=actor, at=at, data=data)
    return person
