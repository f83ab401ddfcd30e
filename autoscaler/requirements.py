"""What a pool asks of instance types instead of naming them, and which types have it: `cpu: 2-8`, `generation: ">=5"`.

Types are met in a fixed order, the cheapest first by the reference region's on-demand prices, then those without a
price, smaller before larger. The region of a deployment is not known where a policy is read, and the order has to be
the same wherever that is: what is launched is chosen by the zone's own prices (decide/scheduling/sizing.py).
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

import msgspec

from autoscaler.instance_types import InstanceType, arch_of, family_of, generation_of, reference_usd

MOST_TYPES: Final = 50
"""So many types of a pool are thought of, the first ones; the list of a pool that names them is no longer either."""
_NUMBER: Final = r"(\d{1,7}(?:\.\d{1,3})?)"
_RANGE: Final = rf"(?:{_NUMBER}(?:\s*-\s*{_NUMBER})?|(>=|<=)\s*{_NUMBER})(\s*GiB)?"
_MIB_PER_GIB: Final = 1024

Range = (
    Annotated[str, msgspec.Meta(max_length=40, description="a range (2-8, >=5)")]
    | Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
)
"""`2-8`, `>=5`, `<=16` or one number; of memory with its unit, `2-8 GiB`."""
ResourceName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*)$")]
"""An extended resource of Kubernetes, `nvidia.com/gpu`."""


class Requirements(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every type of a pool has; what is left out may be anything."""

    cpu: Range | None = None
    """In vCPU."""
    memory: Range | None = None
    """In GiB: `2-8 GiB`."""
    memory_per_cpu: Range | None = None
    """In GiB for each vCPU."""
    arch: Annotated[tuple[Literal["arm64", "amd64"], ...], msgspec.Meta(max_length=2)] = ()
    """Of the processor; empty: either."""
    generation: Range | None = None
    """The number in a type's name: 7 of m7g."""
    exclude: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9*?.-]+$", max_length=40)], ...],
        msgspec.Meta(max_length=50),
    ] = ()
    """Types (`t3.nano`) or whole families (`t3`), also with `*`."""
    extended: Annotated[dict[ResourceName, Range], msgspec.Meta(max_length=10)] = {}
    """Extended resources. A type that has one not named here is never taken: it would be paid for and not used."""


def faults_of(asked: Requirements) -> list[str]:
    """What is wrong with it, a sentence each."""
    plain = {"cpu": asked.cpu, "generation": asked.generation}
    plain |= {f"extended.{name}": of for name, of in asked.extended.items()}
    memory = {"memory": asked.memory, "memory_per_cpu": asked.memory_per_cpu}
    found = [_fault(name, given, "2-8, >=5, <=16 or one number", unit=False) for name, given in plain.items()]
    found += [_fault(name, given, "2-8 GiB, >=4 GiB or 16 GiB", unit=True) for name, given in memory.items()]
    return [fault for fault in found if fault]


def matching(
    asked: Requirements, types: Mapping[str, InstanceType], usd_per_hour: Mapping[str, float]
) -> tuple[str, ...]:
    """Every type that has it, the cheapest first. `usd_per_hour`: the operator's prices, before the reference ones.

    Raises ValueError for what `faults_of` finds.
    """
    checks = _checks(asked)
    found = [name for name, has in types.items() if all(check(name, has) for check in checks)]
    listed = {**reference_usd(), **usd_per_hour}

    def order(name: str) -> tuple[bool, float, int, int, str]:
        usd, has = listed.get(name), types[name]
        return usd is None, usd or 0.0, has.cpu_millicores, has.memory_mib, name

    return tuple(sorted(found, key=order))


_Check = Callable[[str, InstanceType], bool]


def _checks(asked: Requirements) -> list[_Check]:
    checks: list[_Check] = [lambda _, has: set(has.extended) <= set(asked.extended)]
    numbers: list[tuple[Range | None, Callable[[str, InstanceType], float]]] = [
        (asked.cpu, lambda _, has: has.cpu_millicores / 1000),
        (asked.memory, lambda _, has: has.memory_mib / _MIB_PER_GIB),
        (asked.memory_per_cpu, lambda _, has: has.memory_mib / _MIB_PER_GIB / (has.cpu_millicores / 1000)),
        (asked.generation, lambda name, _: generation_of(name)),
        *((of, _pieces_of(name)) for name, of in asked.extended.items()),
    ]
    checks += [_within(*_bounds(of), number) for of, number in numbers if of is not None]
    if asked.arch:
        checks.append(lambda name, _: arch_of(name) in asked.arch)
    checks.append(lambda name, _: not any(_is_meant(name, pattern) for pattern in asked.exclude))
    return checks


def _pieces_of(resource: str) -> Callable[[str, InstanceType], float]:
    return lambda _, has: has.extended.get(resource, 0)


def _within(low: float, high: float, number: Callable[[str, InstanceType], float]) -> _Check:
    return lambda name, has: low <= number(name, has) <= high


def _is_meant(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(family_of(name), pattern)


def _fault(name: str, given: Range | None, allowed: str, *, unit: bool) -> str:
    if given is None:
        return ""
    found = re.fullmatch(_RANGE, str(given).strip())
    if found is None or bool(found[5]) is not unit:
        return f"{name} is {given!r}: write {allowed}"
    low, high = _bounds(given)
    return f"{name} is {given!r}, which no number is: write the smaller one first" if low > high else ""


def _bounds(given: Range) -> tuple[float, float]:
    found = re.fullmatch(_RANGE, str(given).strip())
    if found is None:
        raise ValueError(f"{given!r} is no range")
    first, last, sign, limit, _ = found.groups()
    if sign:
        return (float(limit), float("inf")) if sign == ">=" else (0.0, float(limit))
    return float(first), float(last or first)
