"""`k3s-autoscaler validate`: what a policy means once its pools are resolved, or the sentence that refuses it."""

from collections.abc import Iterator
from typing import Annotated

import typer

from autoscaler.cli.ending import WRONG_INPUT, end
from autoscaler.cli.options import REGION_VARIABLES
from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.capacity.prices import price_of
from autoscaler.instance_types import REFERENCE_REGION, arch_of
from autoscaler.model import ON_DEMAND
from autoscaler.policy import Policy, PolicyError
from autoscaler.pools import WorkerPool
from autoscaler.requirements import MOST_TYPES
from autoscaler.runtime import read_policy

_MIB_PER_GIB = 1024


def validate(
    policy: Annotated[str, typer.Argument(help="The scaling policy.")] = "policy.yml",
    *,
    region: Annotated[
        str, typer.Option("--region", envvar=REGION_VARIABLES, help="Whose prices are shown.")
    ] = REFERENCE_REGION,
) -> None:
    """Check a policy as the functions do, and show the instance types, sizes and prices of each pool.

    Nothing is asked of AWS: prices are those of the package's table, and your own.
    """
    try:
        read = read_policy(policy)
    except PolicyError as error:
        end(str(error), WRONG_INPUT)
    typer.echo(f"{policy} is valid. Prices: US dollars an hour on demand in {region}, ? where nobody knows.")
    for pool in read.pools:
        for line in lines_of(pool, read, region):
            typer.echo(line)


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
