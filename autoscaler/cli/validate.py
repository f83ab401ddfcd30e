"""`k3s-autoscaler validate`: what a policy means once its pools are resolved, or everything that refuses it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from autoscaler.cli.ending import WRONG_INPUT
from autoscaler.cli.options import REGION_VARIABLES, AsJson
from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.capacity.prices import counted_price, price_of, price_table
from autoscaler.deploy.check import faults_of, stale_rules
from autoscaler.deploy.rules import ROOT, TEMPLATES
from autoscaler.instance_types import REFERENCE_REGION, arch_of
from autoscaler.model import ON_DEMAND, SPOT
from autoscaler.policy import Policy, policy_hash
from autoscaler.policyfile.places import Fault
from autoscaler.pools import WorkerPool
from autoscaler.requirements import MOST_TYPES

_MIB_PER_GIB: Final = 1024
_LEAST_TO_COUNT: Final = 2
MOST_NAMED: Final = 3
"""Types named in one sentence."""


def validate(
    policy: Annotated[str, typer.Argument(help="The scaling policy.")] = "policy.yml",
    *,
    region: Annotated[
        str, typer.Option("--region", envvar=REGION_VARIABLES, help="Whose prices are shown.")
    ] = REFERENCE_REGION,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", help="What `make rules` wrote, to compare; without it the clone's monitoring/."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse rules of another policy too, as packaging does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a policy as the functions do, and show the instance types, sizes and prices of each pool.

    Everything that is wrong is told at once, a line each, with its file and line. Ends with 2 if something is.
    Nothing is asked of AWS: prices are those of the package's table, and your own.
    """
    read, faults = faults_of(Path(policy))
    stale: list[str] = []
    if read is not None and TEMPLATES.is_dir():
        stale = stale_rules(read, rules or ROOT / "monitoring", Path(policy))
    elif strict:
        stale = ["Rules cannot be compared where monitoring/templates is missing: run this in a clone."]
    if strict:
        faults, stale = [*faults, *map(Fault, stale)], []
    unpriced = list(unpriced_in(read, region)) if read is not None else []
    if as_json:
        typer.echo(json.dumps(_document(policy, read, faults, [*stale, *unpriced]), indent=2))
    elif not faults and read is not None:
        typer.echo(
            f"{policy} is valid. Prices: US dollars an hour on demand in {region}{_as_of(region)}, ? where nobody "
            "knows."
        )
        for pool in read.pools:
            for line in lines_of(pool, read, region):
                typer.echo(line)
        for sentence in stale:
            typer.echo(f"Not deployable yet: {sentence}", err=True)
        for sentence in unpriced:
            typer.echo(f"Will not do what it says: {sentence}", err=True)
    else:
        for line in _refusal(policy, faults):
            typer.echo(line, err=True)
    if faults:
        raise typer.Exit(WRONG_INPUT)


def _refusal(policy: str, faults: Sequence[Fault]) -> Iterator[str]:
    yield from (fault.told for fault in faults)
    if len(faults) >= _LEAST_TO_COUNT:
        yield f"{policy} is not valid: {len(faults)} things are wrong. The committed policy.yml shows every field."


def _document(policy: str, read: Policy | None, faults: Sequence[Fault], about: Sequence[str]) -> dict[str, Any]:
    """`warning`: the policy is valid, and could not be deployed with the rules as they are, or lacks prices."""
    problems = [
        {"verdict": "problem", "said": fault.sentence, "file": fault.source or None, "line": fault.line or None}
        for fault in faults
    ]
    warnings = [{"verdict": "warning", "said": sentence, "file": None, "line": None} for sentence in about]
    return {
        "policy": policy,
        "valid": not faults,
        "policy_hash": policy_hash(read) if read is not None else None,
        "findings": [*problems, *warnings],
    }


def unpriced_in(policy: Policy, region: str) -> Iterator[str]:
    """A sentence for each part of `cost` that comes to nothing in the region, since a price is not known there."""
    cost, zone = policy.cost, f"{region}a"
    if cost.max_usd_per_hour is not None:
        wanted = ((kind, market) for pool in policy.pools for kind in pool.instance_types for market in _markets(pool))
        lacks = [f"{kind} ({market})" for kind, market in wanted if counted_price(kind, zone, market, policy) is None]
        more = f" and {len(lacks) - MOST_NAMED} more" if len(lacks) > MOST_NAMED else ""
        if lacks:
            yield (
                f"cost.max_usd_per_hour launches nothing whose price is not known, and in {region} that is "
                f"{', '.join(lacks[:MOST_NAMED])}{more}: `k3s-autoscaler prices refresh --region {region}`, or give "
                "them under cost"
            )
    baseline = cost.baseline_type or policy.default_pool.instance_types[0]
    if cost.baseline_workers is not None and counted_price(baseline, zone, ON_DEMAND, policy) is None:
        yield (
            f"cost.baseline_workers tells no saving, since the price of {baseline} in {region} is not known: "
            f"`k3s-autoscaler prices refresh --region {region}`, or give it under cost.usd_per_hour"
        )


def _as_of(region: str) -> str:
    listed = price_table().get(region, {}).get(ON_DEMAND)
    return f" as of {listed.dated}" if listed is not None else ""


def _markets(pool: WorkerPool) -> tuple[str, ...]:
    return (SPOT, ON_DEMAND) if pool.market == SPOT else (ON_DEMAND,)


def lines_of(pool: WorkerPool, policy: Policy, region: str) -> Iterator[str]:
    """One pool, a type a line, in the order in which they are thought of."""
    most = policy.workers.max if pool.max is None else pool.max
    yield ""
    least = pool.min if policy.workers.pools else policy.workers.min
    yield f"pool {pool.name}: {pool.market}, {least} to {most} workers{_marks(pool)}"
    yield f"  {'type':<18}{'arch':<7}{'vCPU':>6}{'GiB':>8}{'pods get CPU':>14}{'GiB':>7}{'USD/h':>10}"
    for kind in pool.instance_types:
        size, room = policy.known_types[kind], nominal_resources(kind, policy)
        usd = price_of(kind, f"{region}a", ON_DEMAND, policy)
        price = "?" if usd is None else f"{usd:.4f}"
        extended = "".join(f"  {pieces} {name}" for name, pieces in sorted(size.extended.items()))
        yield (
            f"  {kind:<18}{arch_of(kind):<7}{size.cpu_millicores / 1000:>6g}{size.memory_mib / _MIB_PER_GIB:>8g}"
            f"{room.cpu_millicores / 1000:>14g}{room.memory_bytes / 2**30:>7.1f}{price:>10}{extended}"
        )
    if pool.requirements is not None and len(pool.instance_types) == MOST_TYPES:
        yield f"  (the cheapest {MOST_TYPES} of those that meet the requirements)"


def _marks(pool: WorkerPool) -> str:
    labels = [f"label {key}={value}" for key, value in sorted(pool.labels.items())]
    taints = [f"taint {taint}" for taint in pool.taints]
    return "".join(f", {mark}" for mark in (*labels, *taints))
