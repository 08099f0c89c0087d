"""`{% load ui %}`: every tag and filter of the design system under one name."""

from __future__ import annotations

from django import template

from changecontrol.templatetags import charts, controls, digests, icons, layout, numbers, states, times

register = template.Library()

for _library in (charts, controls, digests, icons, layout, numbers, states, times):
    register.tags.update(_library.register.tags)
    register.filters.update(_library.register.filters)
