"""A vote as a browser sends it. Whether it may be cast is the action's to say."""

from __future__ import annotations

from django import forms

from changecontrol.models.approval import VoteVerdict

CASTABLE = (VoteVerdict.APPROVE, VoteVerdict.REJECT, VoteVerdict.ABSTAIN)


class VoteForm(forms.Form):
    verdict = forms.ChoiceField(choices=[(one.value, one.label) for one in CASTABLE])
    seen_digest = forms.RegexField(r"^[0-9a-f]{64}$", strip=True)
    comment = forms.CharField(required=False, max_length=4000)


class WithdrawForm(forms.Form):
    comment = forms.CharField(required=False, max_length=4000)


class QueueForm(forms.Form):
    """The filter of the approval queue."""

    ORDERS = (("time", "Least time left"), ("sales", "Largest share of sales"), ("tier", "Highest tier"))

    tenant = forms.CharField(required=False, max_length=63)
    order = forms.ChoiceField(required=False, choices=ORDERS)
