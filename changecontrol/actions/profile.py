"""What a person says about themselves."""

from __future__ import annotations

import zoneinfo

from django.db import transaction

from changecontrol.access import Actor
from changecontrol.errors import Invalid
from changecontrol.models import User


@transaction.atomic
def set_zone(*, actor: Actor, zone: str) -> User:
    """Choose the zone in which one's pages show times. Stored times do not change. Raises `Invalid`."""
    if zone not in zoneinfo.available_timezones():
        sentence = "Choose a time zone of the list."
        raise Invalid(sentence, fields={"zone": [sentence]})
    person = User.objects.select_for_update().get(pk=actor.person.pk)
    person.zone = zone
    person.save(update_fields=["zone"])
    return person
