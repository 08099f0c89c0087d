"""Tells whether the planned start falls into a window, and whether one is in sight at all (WIN-5).

Before approval a closed window is a warning: scheduling blocks, and the run itself enforces it at every wave.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from changecontrol.queries import windows
from changecontrol.rules.windows import fit
from deployments.gates.context import KINDS, DeployContext, digest_of_value, said


class WindowGate:
    key = "window"
    name = "Change windows and freezes"
    tool = "ChangeControl calendar"
    kinds = KINDS
    time_to_live = timedelta(hours=1)

    def judge(self, context: DeployContext) -> GateVerdict:
        content = replace(context.resolved.content, waves=context.resolved.waves)
        start = max(context.change.planned_start_at or context.at, context.at)
        verdicts = windows.judge_change(context.change, at=start, content=content)
        hopeless = [
            one.sentence for one in verdicts if not one.judgement.is_open and one.judgement.next_opening is None
        ]
        closed = [one.sentence for one in verdicts if one.wave == 0 and not one.judgement.is_open]
        run_for = timedelta(seconds=content.estimated_seconds)
        bake_for = timedelta(seconds=sum(wave.bake_seconds for wave in content.waves))
        tight = [
            f"{one.environment}: {found.sentence}"
            for one in verdicts
            if one.wave == 0 and one.judgement.is_open
            for found in [
                fit(
                    one.judgement,
                    at=start,
                    run_for=max(run_for - bake_for, timedelta()),
                    bake_for=bake_for,
                    rollback_for=timedelta(seconds=content.ready_within_seconds),
                )
            ]
            if not found.fits
        ]
        if hopeless:
            sentence = said(hopeless)
        elif closed:
            sentence = f"Waits for its window. {said(closed)}"
        elif tight:
            sentence = f"Open, but tight. {said(tight)} Later waves wait for the next opening."
        else:
            sentence = "The first wave's targets are open at the planned start."
        return GateVerdict(
            verdict=Verdict.FAIL if hopeless else Verdict.PASS,
            sentence=sentence,
            judged=digest_of_value(
                [[wave.name, list(wave.environments), list(wave.cohorts)] for wave in content.waves]
            ),
            judged_what="waves",
            raw=[{"wave": one.wave, "zone": one.zone, "says": one.sentence} for one in verdicts],
        )
