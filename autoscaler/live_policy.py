"""The policy that holds: the deployed one, and what an operator has changed about it since, without a deployment.

The changes are YAML in a parameter of Parameter Store, laid over the deployed policy field by field. A version of it
that is valid is kept in the state, which each look reads anyway; one that is not is told, and the last valid one stays.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from autoscaler.decide.capacity.catalogue import UnknownInstanceType, check_instance_types
from autoscaler.document import Outcome
from autoscaler.instance_types import arch_of
from autoscaler.model import OfferedPolicy, PolicyOverride, State
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, told
from autoscaler.policyfile.layers import laid_over
from autoscaler.policyfile.reading import read
from autoscaler.policyfile.text import BadYaml, Tree, read_yaml
from autoscaler.pools import FLAT_FIELDS

LONGEST_CHARACTERS: Final = 4096
"""A standard parameter's value (Systems Manager quotas)."""
_LONGEST_TOLD: Final = 1000

_DEPLOY: Final = "change it in the policy file, and deploy"
_RULES: Final = (
    "Prometheus' rules and scrapes are rendered from it: change it in the policy file, `make rules`, and deploy"
)
LOCKED: Final[Mapping[str, str]] = {
    "extends": "the changes lie over the deployed policy and nothing else: leave it out",
    "mode": "`k3s-autoscaler pause`, `observe` and `resume` set the mode of a cluster that runs",
    "metrics": _RULES,
    "history_days": f"what is kept already has its end: {_DEPLOY}",
    "workers.join_timeout_s": f"the workers' user data knows it: {_DEPLOY}",
    "workers.pools": f"each pool has a launch template of its own: {_DEPLOY}",
}
"""What the stack was deployed with, by path: no live change may name it. Why, and what to do."""
_BESIDE_POOLS: Final = f"each of the deployed workers.pools states its own, so it would change nothing: {_DEPLOY}"


class InForce(NamedTuple):
    """The policy of a look."""

    policy: Policy
    version: int | None
    """Of the parameter whose changes are in it; None: the deployed policy holds alone."""
    problem: str
    """Why not all that an operator asked for holds; empty where it does."""


def in_force(deployed: Policy, override: PolicyOverride | None) -> InForce:
    """The deployed policy with the changes. One whose changes no longer fit it holds alone, and that is a problem."""
    if override is None:
        return InForce(deployed, None, "")
    policy, misfit = _laid(msgspec.json.encode(deployed), override.text) if override.version else (None, "")
    if misfit:
        return InForce(
            deployed,
            None,
            f"version {override.version} of the policy's parameter does not fit the policy that is deployed, which "
            f"holds alone: {misfit}",
        )
    version = override.version or None
    return InForce(policy or deployed, version, _refusal(override))


def _refusal(override: PolicyOverride) -> str:
    if not override.invalid_version:
        return ""
    stays = f"version {override.version} stays" if override.version else "the deployed policy holds alone"
    return f"version {override.invalid_version} of the policy's parameter is refused, and {stays}: {override.invalid}"


def taken_up(state: State, offered: OfferedPolicy, deployed: Policy) -> State:
    """The state with what Parameter Store holds now: taken up where it is valid, noted where it is not.

    What was seen later stays: events come twice and in any order.
    """
    held = state.policy_override or PolicyOverride()
    if offered.text is None:
        return msgspec.structs.replace(state, policy_override=None)
    if (offered.changed_at_s, offered.version) <= (held.changed_at_s, held.seen_version):
        return state
    try:
        changed_policy(deployed, offered.text)
    except PolicyError as error:
        new = msgspec.structs.replace(
            held,
            changed_at_s=offered.changed_at_s,
            invalid_version=offered.version,
            invalid=str(error)[:_LONGEST_TOLD],
        )
    else:
        new = PolicyOverride(version=offered.version, text=offered.text, changed_at_s=offered.changed_at_s)
    return msgspec.structs.replace(state, policy_override=new)


def policy_told(state: State, offered: OfferedPolicy) -> Outcome:
    """What people are told once of what was offered: that it holds, or why it does not."""
    held = state.policy_override
    if held is None:
        return Outcome(done=("the policy's parameter is gone: the deployed policy holds alone",))
    if held.invalid_version == offered.version:
        return Outcome(failures=(_refusal(held),), fresh_failure=True)
    if held.version == offered.version:
        return Outcome(done=(f"version {held.version} of the policy's parameter holds",))
    return Outcome()


def changed_policy(deployed: Policy, text: str) -> Policy:
    """The deployed policy with these changes. Raises PolicyError with everything that is wrong."""
    if len(text) > LONGEST_CHARACTERS:
        raise PolicyError(
            f"The changes have {len(text)} characters, and a parameter may have {LONGEST_CHARACTERS}: put lasting ones "
            "into the policy file."
        )
    try:
        changes = read_yaml(text)
    except BadYaml as error:
        raise PolicyError(f"The changes are not valid YAML: {error}.") from error
    if changes is None:
        changes = {}
    if not isinstance(changes, dict):
        raise PolicyError("The changes hold no fields: write some, each as `name: value`.")
    locked = [f"{path} cannot be changed live: {why}" for path, why in LOCKED.items() if _names(changes, path)]
    locked += [f"workers.{name} cannot be changed live: {_BESIDE_POOLS}" for name in _beside_pools(changes, deployed)]
    policy, wrong = read(Policy, laid_over(msgspec.to_builtins(deployed), changes))
    faults = [*locked, *wrong, *(_faults_of_types(policy, deployed) if policy is not None else ())]
    if policy is None or faults:
        raise PolicyError(f"The changes make no valid policy: {told(faults)}")
    return policy


def _names(tree: Any, path: str) -> bool:
    """Whether the changes say anything of this path; `null` for what holds it does."""
    name, _, rest = path.partition(".")
    if not isinstance(tree, Mapping) or name not in tree:
        return False
    return not rest or tree[name] is None or _names(tree[name], rest)


def _beside_pools(changes: Tree, deployed: Policy) -> list[str]:
    """Fields of `workers` that say nothing of a fleet with pools, and that the changes give."""
    workers = changes.get("workers") if deployed.workers.pools else None
    return [name for name in FLAT_FIELDS if isinstance(workers, Mapping) and workers.get(name) is not None]


def _faults_of_types(policy: Policy, deployed: Policy) -> list[str]:
    """Sizes that nobody knows, and types of an architecture that the pool has no launch template for."""
    try:
        check_instance_types(policy)
    except UnknownInstanceType as error:
        return [str(error)]
    deployed_for = {pool.name: pool.archs for pool in deployed.pools}
    for pool in policy.pools:
        archs = deployed_for.get(pool.name, ())
        other = next((kind for kind in pool.instance_types if arch_of(kind) not in archs), None)
        if other is not None:
            where = f"workers.pools.{pool.name}" if policy.workers.pools else "workers.instance_types"
            return [
                f"{where} names {other}, which is {arch_of(other)}, and the workers' image is for "
                f"{' and '.join(sorted(archs))}: name types of that"
            ]
    return []


@lru_cache(maxsize=4)
def _laid(deployed: bytes, text: str) -> tuple[Policy | None, str]:
    """The policy, or why it is none; a warm function asks the same thing at each look."""
    try:
        return changed_policy(msgspec.json.decode(deployed, type=Policy), text), ""
    except PolicyError as error:
        return None, str(error)
