"""From a submitted revision to what it means: commit, manifests, targets, waves, rollback and restore.

The same function is asked again before the start and before every wave; a document that differs is plan drift (APR-9).
Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Sum

from changecontrol.errors import Conflict, Permanent
from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models import ChangeRequest, Cohort, Environment, GitSource, Store
from changecontrol.models.estate import Stage
from changecontrol.ports import COHORT_LABEL
from changecontrol.rules.content import Content, Promotion, Wave
from changecontrol.rules.content_problems import restore_time_of
from changecontrol.rules.risk import tier_defaults
from deployments import doors
from deployments.ports import CommitInfo, GitRepository
from deployments.rendering import (
    Manifests,
    Unresolvable,
    manifests_at,
    name_of,
    previous_manifests,
    redaction_key,
    safe,
)
from deployments.rules.indicators import CATALOGUE
from deployments.rules.redaction import hash_of_rendered
from deployments.rules.rollback_class import Classification, RollbackClass, classify, stricter
from recovery.queries import RestorePlan, restore_plan_of

MAX_TARGETS = 5000
_STAGE_ORDER = {Stage.DEVELOPMENT: 0, Stage.STAGING: 1, Stage.PRODUCTION: 2}


@dataclass(frozen=True, slots=True)
class ResolvedEnvironment:
    """One environment of the plan. `commit_from` is what its ref names now; None where it never had one."""

    environment: Environment
    commit_from: str | None
    manifests: Manifests
    previous: Manifests


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """One workload of one environment, or (empty `workload`) what its workloads share."""

    environment: Environment
    cohort: Cohort | None
    workload: str
    wave: int
    store_count: int = 0
    sales_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Resolved:
    content: Content
    source: GitSource
    commit: CommitInfo
    environments: tuple[ResolvedEnvironment, ...]
    waves: tuple[Wave, ...]
    targets: tuple[ResolvedTarget, ...]
    classification: Classification
    commits: tuple[CommitInfo, ...] = ()
    manifests_hash: str = ""
    objects: tuple[Mapping[str, Any], ...] = field(default=())
    restore: RestorePlan | None = None
    """What is brought back, where the change is a restore."""

    def of(self, slug: str) -> ResolvedEnvironment:
        return next(one for one in self.environments if one.environment.slug == slug)

    @property
    def is_first(self) -> bool:
        """Nothing was ever deployed to one of these places: going back means deleting what the run created."""
        return any(one.commit_from is None for one in self.environments)


def environments_of(change: ChangeRequest) -> tuple[Environment, ...]:
    """Return the environments of a change with what resolving them needs, in the order of stages."""
    rows = change.environments.select_related("source", "cluster", "tenant").prefetch_related("cohorts")
    return tuple(sorted(rows, key=lambda one: (_STAGE_ORDER[Stage(one.stage)], one.slug)))


def source_of(environments: Sequence[Environment]) -> GitSource:
    if not environments:
        raise Unresolvable("The change names no environment.")
    sources = {one.source_id: one.source for one in environments}
    if len(sources) > 1:
        names = ", ".join(sorted(source.name for source in sources.values()))
        raise Unresolvable(f"Its environments come from different Git sources ({names}). File one change for each.")
    return environments[0].source


def resolve(change: ChangeRequest, content: Content, *, commit: str, kept_commit: str = "") -> Resolved:
    """Resolve what a revision asks for at a commit. The mirror must hold the commit or be able to fetch it.

    `kept_commit` is that of the plan before: where its manifests are the same (a rebase), it stays, and so do the
    votes. Raises `Unresolvable` with a sentence for the requester, `Transient` where Git does not answer.
    """
    environments = environments_of(change)
    repository = doors.open_source(source_of(environments))
    info = repository.observe_commit(commit)
    resolved = tuple(_environment(one, info.sha, repository) for one in environments)
    if kept_commit and kept_commit != info.sha and _renders_the_same(resolved, kept_commit):
        info = repository.observe_commit(kept_commit)
        resolved = tuple(_environment(one, info.sha, repository) for one in environments)
    stores = _stores(change)
    drafts = [draft for one in resolved for draft in _drafts(one, stores)]
    if len(drafts) > MAX_TARGETS:
        raise Unresolvable(f"The change reaches {len(drafts)} targets; one change has at most {MAX_TARGETS}.")
    waves = content.waves or default_waves(drafts, tier=change.tier, kind=change.kind)
    # Without a commit to start from the whole history would count, and bar everybody who ever wrote a line.
    commits = {info.sha: info} | {
        found.sha: found
        for start in {one.commit_from for one in resolved if one.commit_from}
        for found in repository.observe_range(old=start, new=info.sha)
    }
    restore = _restore(change, content, environments)
    targets = _in_waves(drafts, waves, environments, content)
    if restore is not None:
        _check_moved_at_once(restore, targets, waves)
    everything = [one.manifest for env in resolved for one in env.manifests.objects]
    before = [one.manifest for env in resolved for one in env.previous.objects]
    return Resolved(
        content=content,
        source=environments[0].source,
        commit=info,
        environments=resolved,
        waves=waves,
        targets=targets,
        classification=_classified(classify(before, everything), restore),
        commits=tuple(commits.values()),
        manifests_hash=hash_of_rendered((safe(one) for one in everything), key=redaction_key()),
        restore=restore,
    )


def _restore(change: ChangeRequest, content: Content, environments: Sequence[Environment]) -> RestorePlan | None:
    if change.kind != ChangeKind.RESTORE:
        return None
    try:
        return restore_plan_of(
            environments[0],
            to=restore_time_of(content),
            database=content.restore_database,
            keep_hours=content.keep_hours,
            change=change,
        )
    except Conflict as refusal:
        raise Unresolvable(refusal.sentence) from None


def _classified(computed: Classification, restore: RestorePlan | None) -> Classification:
    """A restore replaces the data: the way back is the old database, for as long as it is kept."""
    if restore is None:
        return computed
    reason = f"“{restore.to_database}” takes the place of “{restore.from_database}”, with the data of an earlier time."
    return Classification(stricter(computed.rollback_class, declared=RollbackClass.R2), (reason, *computed.reasons))


def default_waves(drafts: Iterable[ResolvedTarget], *, tier: int | None, kind: str) -> tuple[Wave, ...]:
    """Plan waves where nobody did: pilot cohorts first, then environment by environment.

    A restore has no pilot: one that took orders while it bakes would take them into another database than the rest.
    """
    bake = int(tier_defaults(tier).bake_for.total_seconds())
    everyone = list(drafts)
    slugs = list(dict.fromkeys(one.environment.slug for one in everyone))
    has_pilots = kind != ChangeKind.RESTORE
    pilots = [one for one in everyone if has_pilots and one.cohort and one.cohort.is_pilot]
    waves = []
    if pilots:
        waves.append(
            Wave(
                name="Pilot",
                environments=tuple(dict.fromkeys(one.environment.slug for one in pilots)),
                cohorts=tuple(sorted({one.cohort.slug for one in pilots if one.cohort})),
                bake_seconds=bake,
                promotion=Promotion.AUTOMATIC,
            )
        )
    left = {one.environment.slug for one in everyone if one not in pilots}
    waves.extend(Wave(name=slug, environments=(slug,), bake_seconds=bake) for slug in slugs if slug in left)
    return tuple(waves)


def _environment(environment: Environment, commit: str, repository: GitRepository) -> ResolvedEnvironment:
    commit_from = repository.observe_ref(environment.ref)
    try:
        previous = previous_manifests(environment, commit_from)
    except Unresolvable as refusal:
        raise Unresolvable(
            f"There would be no way back: what runs there now cannot be rendered. {refusal.reason}"
        ) from None
    return ResolvedEnvironment(
        environment=environment,
        commit_from=commit_from,
        manifests=manifests_at(environment, commit, repository=repository),
        previous=previous,
    )


def _renders_the_same(resolved: Iterable[ResolvedEnvironment], kept: str) -> bool:
    try:
        return all(
            [o.manifest for o in manifests_at(one.environment, kept).objects]
            == [o.manifest for o in one.manifests.objects]
            for one in resolved
        )
    except Permanent:
        return False  # the old commit is gone from the source


def _stores(change: ChangeRequest) -> dict[int, tuple[int, float]]:
    rows = (
        Store.objects.filter(tenant_id=change.tenant_id)
        .order_by()
        .values("cohort_id")
        .annotate(stores=Count("pk"), share=Sum("sales_share"))
    )
    return {row["cohort_id"]: (row["stores"], round(float(row["share"] or 0), 4)) for row in rows}


def _drafts(resolved: ResolvedEnvironment, stores: Mapping[int, tuple[int, float]]) -> list[ResolvedTarget]:
    environment = resolved.environment
    cohorts = {cohort.slug: cohort for cohort in environment.cohorts.all()}
    found = []
    for one in resolved.manifests.workloads:
        label = str(((one.manifest.get("metadata") or {}).get("labels") or {}).get(COHORT_LABEL, ""))
        if label and label not in cohorts:
            raise Unresolvable(f"{environment.slug}: {one.ref} serves the cohort {label}, which it does not have.")
        cohort = cohorts.get(label)
        served = [stores.get(each.pk, (0, 0.0)) for each in ([cohort] if cohort else cohorts.values())]
        found.append(
            ResolvedTarget(
                environment=environment,
                cohort=cohort,
                workload=name_of(one.ref),
                wave=-1,
                store_count=sum(count for count, _ in served),
                sales_share=round(sum(share for _, share in served), 4),
            )
        )
    return found


def _in_waves(
    drafts: Sequence[ResolvedTarget], waves: Sequence[Wave], environments: Sequence[Environment], content: Content
) -> tuple[ResolvedTarget, ...]:
    _check_names(waves, environments, content)
    placed: list[ResolvedTarget] = []
    homeless: list[str] = []
    for draft in drafts:
        number = next((n for n, wave in enumerate(waves) if _covers(wave, draft)), None)
        if number is None:
            homeless.append(f"{draft.environment.slug} {draft.workload}")
            continue
        placed.append(_at(draft, number))
    if homeless:
        raise Unresolvable(f"No wave updates {', '.join(homeless[:5])}. Name its environment and cohort in a wave.")
    for environment in environments:
        own = [one.wave for one in placed if one.environment.pk == environment.pk]
        named = [n for n, wave in enumerate(waves) if environment.slug in wave.environments]
        first = min(own or named, default=0)
        placed.append(ResolvedTarget(environment=environment, cohort=None, workload="", wave=first))
    used = {one.wave for one in placed}
    empty = [wave.name for number, wave in enumerate(waves) if number not in used]
    if empty:
        raise Unresolvable(f"The wave “{empty[0]}” updates nothing: take it out, or name what it should update.")
    return tuple(sorted(placed, key=lambda one: (one.wave, one.environment.slug, one.workload)))


def _check_moved_at_once(restore: RestorePlan, targets: Iterable[ResolvedTarget], waves: Sequence[Wave]) -> None:
    """Refuse a restore that comes in several waves, whoever wrote them: two databases would take orders at once."""
    used = sorted({one.wave for one in targets if one.environment.slug == restore.environment})
    if len(used) < 2:
        return
    *names, last = [f"“{waves[number].name}”" for number in used]
    raise Unresolvable(
        f"{restore.environment} is restored in {len(used)} waves, {', '.join(names)} and {last}: between them some of "
        f"it would write to “{restore.to_database}” and the rest to “{restore.from_database}”, and what the rest wrote "
        "would be lost. Put all of it in one wave, or plan no waves."
    )


def _check_names(waves: Sequence[Wave], environments: Sequence[Environment], content: Content) -> None:
    slugs = {one.slug for one in environments}
    cohorts = {cohort.slug for one in environments for cohort in one.cohorts.all()}
    for wave in waves:
        for name in wave.environments:
            if name not in slugs:
                raise Unresolvable(
                    f"The wave “{wave.name}” names the environment {name}, which the change does not have."
                )
        for name in wave.cohorts:
            if name not in cohorts:
                raise Unresolvable(f"The wave “{wave.name}” names the cohort {name}, which no environment here has.")
    for rule in content.indicators:
        if rule.indicator not in CATALOGUE:
            raise Unresolvable(f"There is no indicator called {rule.indicator}.")


def _covers(wave: Wave, target: ResolvedTarget) -> bool:
    is_named = target.cohort is not None and target.cohort.slug in wave.cohorts
    return target.environment.slug in wave.environments and (not wave.cohorts or is_named)


def _at(draft: ResolvedTarget, wave: int) -> ResolvedTarget:
    return ResolvedTarget(
        environment=draft.environment,
        cohort=draft.cohort,
        workload=draft.workload,
        wave=wave,
        store_count=draft.store_count,
        sales_share=draft.sales_share,
    )
