"""Small recordings."""

from typing import Any

from autoscaler.backtest.recording import Group, Recording

BEGIN_S = 1_799_971_200
"""A midnight."""
MIB = 1024**2


def group(*pods: int | None, kind: str = "ReplicaSet", millicores: int = 500, mib: int = 64) -> Group:
    return Group(namespace="shop", kind=kind, cpu_millicores=millicores, memory_bytes=mib * MIB, pods=pods)


def recording(*groups: Group, step_s: int = 300, **more: Any) -> Recording:
    """Two workers that use a core and a gibibyte, unless something else is told."""
    steps = len(groups[0].pods)
    told = {
        "used_cores": (1.0,) * steps,
        "used_bytes": (float(1024 * MIB),) * steps,
        "workers": (2,) * steps,
        "waiting": (0,) * steps,
    }
    return Recording(begin_s=BEGIN_S, step_s=step_s, groups=groups, **{**told, **more})
