"""Invariants of money: a decision counts by the prices that hold, and a cheaper worker is cheaper."""

from collections.abc import Mapping
from typing import Any

from autoscaler.model import ON_DEMAND
from autoscaler.policy import Policy
from autoscaler.simulator.soak.assumptions import FROZEN_S, INVOCATION_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.leaving import launched_by
from autoscaler.simulator.soak.on_decision import CHEAPER
from autoscaler.simulator.soak.on_state import new_launches, new_removals
from autoscaler.simulator.soak.pools import price, usd_of
from autoscaler.simulator.soak.watch import Saved, Watch

HAIR = 1e-6
STATIC_TYPE = "t3.small"
"""Of the workers that are not ours."""


def dollars_are_by_the_prices_that_hold(watch: Watch, document: Mapping[str, Any]) -> str | None:
    """What it says that so many workers cost is neither less nor more than so many can, by a policy that held."""
    cost = document["cost"]
    if cost is None:
        return None
    known, usd = cost["known_workers"], cost["usd_per_hour"]
    policies = watch.policies_since(watch.cluster.now_s - INVOCATION_S - FROZEN_S)
    if any(known * least - HAIR <= usd <= known * most + HAIR for least, most in map(_prices, policies)):
        return None
    return f"it says that {known} workers cost ${usd:.4f} an hour, which they do not"


def _prices(policy: Policy) -> tuple[float, float]:
    """Of the cheapest and the dearest worker that there may be."""
    kinds = {STATIC_TYPE, *policy.instance_types}
    markets = {ON_DEMAND, *(pool.market for pool in policy.pools)}
    prices = [price(policy, kind, market) for kind in kinds for market in markets]
    other = policy.cost.other_usd_per_hour
    prices += [other] if other is not None else []
    return min(prices), max(prices)


def what_comes_for_a_dearer_worker_is_cheaper(watch: Watch, saved: Saved) -> str | None:
    """Of its launch, and of its drain: it saves the share of its price that the policy asks for, which held by then."""
    replacement, known = saved.new.replacement, watch.cluster.ec2.instances
    if replacement is None or replacement.reason != CHEAPER or replacement.instance_id not in known:
        return None
    worker = known[replacement.instance_id]
    policies = watch.policies_since(watch.cluster.now_s - NOTICED_WITHIN_S)
    for launch in new_launches(saved):
        if launch.reason == CHEAPER:
            request = launch.request
            kinds = {row.instance_type for row in request.overrides}
            costs = [request.count * max(price(p, kind, request.market) for kind in kinds) for p in policies]
            told = _does_not_save(policies, [usd_of(p, worker) for p in policies], costs)
            if told is not None:
                return f"{request.count} {sorted(kinds)} are launched for {worker.instance_id}: {told}"
    for removal in new_removals(saved):
        going_on = any(r.instance_id == removal.instance_id for r in saved.old.removals)
        if removal.reason == CHEAPER and removal.instance_id == worker.instance_id and not going_on:
            new = [known[i] for i in launched_by(watch, replacement.launched_by) if i in known]
            ready = {i for moment in watch.truth.lately(NOTICED_WITHIN_S) for i in moment.ready}
            costs = [sum(usd_of(p, i) for i in new if i.instance_id in ready) for p in policies]
            told = _does_not_save(policies, [usd_of(p, worker) for p in policies], costs)
            if told is not None:
                return f"{worker.instance_id} is drained for {[i.instance_id for i in new]}: {told}"
    return None


def _does_not_save(policies: list[Policy], before: list[float], after: list[float]) -> str | None:
    """What is wrong with it under each of the policies; None where it saves enough under one."""
    for policy, old, new in zip(policies, before, after, strict=True):
        share = policy.scale_down.replace_when_saves
        if share is not None and new <= old * (1 - share) + HAIR:
            return None
    return f"${after[-1]:.4f} an hour come for ${before[-1]:.4f}"
