"""What is under way: launches and removals, and what they send out."""

from enum import StrEnum
from typing import Final

import msgspec

ON_DEMAND: Final = "on-demand"
SPOT: Final = "spot"
"""What an instance is paid by, as EC2 writes it (`InstanceLifecycle` is absent of what is on demand)."""


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place to launch: what EC2 can be out of."""

    instance_type: str
    zone: str
    market: str = "on-demand"


class LaunchOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the fleet request's overrides."""

    instance_type: str
    subnet_id: str
    zone: str


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A complete, frozen CreateFleet request: sent again it is identical to the letter."""

    client_token: str
    template_id: str
    template_version: str
    count: int
    overrides: tuple[LaunchOverride, ...]
    tags: tuple[tuple[str, str], ...]
    market: str = "on-demand"
    pool: str = "general"
    """Of `Policy.pools`."""


class LaunchOperation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="launch"
):
    """Workers on their way: from the intent until each is a Ready node or is given up."""

    operation_id: str
    created_at_s: int
    reason: str
    request: LaunchRequest
    instance_ids: tuple[str, ...] = ()
    """Ids only accumulate; one moves to `finished_ids` when its Node is Ready or the instance is given up."""
    finished_ids: tuple[str, ...] = ()
    landed: bool = False
    """The call is known to have reached EC2 with a final answer: it is never sent again."""
    unidentified: int = 0
    """Requested and not yet known by id; 0 once landed."""
    absent_since_s: tuple[tuple[str, int], ...] = ()
    """When an id was first not listed: DescribeInstances is eventually consistent."""
    for_owners: tuple[str, ...] = ()
    """Pod owners that these workers are for, in states older than `OwnerLaunches.decision_id`; not written any more."""
    sent_at_s: int | None = None
    """When the call was last sent, or is about to be."""
    told_failure: str = ""
    """Cause of the failed call that people know of: it is told and recorded once, until it changes or ends."""

    def asking_for(self, count: int) -> "LaunchOperation":
        """The same for so many workers, before it was ever sent."""
        request = msgspec.structs.replace(self.request, count=count)
        return msgspec.structs.replace(self, request=request, unidentified=count)


class PoolTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What launches of one pool freeze, for its types of one architecture."""

    pool: str
    arch: str
    """`arm64` or `amd64`: a template has one image."""
    template_id: str
    template_version: str
    subnet_zones: tuple[tuple[str, str], ...]


class LaunchContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a launch request freezes besides the policy's wishes."""

    template_id: str
    template_version: str
    """Numeric, never `$Latest`."""
    subnet_zones: tuple[tuple[str, str], ...]
    """(subnet id, zone name)."""
    templates: tuple[PoolTemplate, ...] = ()
    """Of the other pools, and of the default one's other architecture; the fields above are the default one's first."""


class LaunchResult(msgspec.Struct, frozen=True, kw_only=True):
    """CreateFleet's answer: instances and errors may both be present."""

    instance_ids: tuple[str, ...] = ()
    errors: tuple[tuple[str, str, str], ...] = ()
    """(error code, instance type, zone) of each pool that gave nothing; the last two are empty where EC2 names none."""
    words: tuple[tuple[str, str], ...] = ()
    """(error code, what EC2 says of it), once a code."""


class RemovalPhase(StrEnum):
    """`draining -> drained -> terminating -> deleting`, or `-> uncordoning`: given back. Never backwards.

    What is not drained is inspected first: `inspecting -> terminating -> deleting`, or it is over and the worker stays.
    """

    INSPECTING = "inspecting"
    DRAINING = "draining"
    DRAINED = "drained"
    TERMINATING = "terminating"
    DELETING = "deleting"
    UNCORDONING = "uncordoning"


class Verb(StrEnum):
    """What the node-command document can do."""

    INSPECT = "inspect"
    PREFLIGHT = "preflight"
    DRAIN = "drain"
    UNCORDON = "uncordon"
    DELETE_NODE = "delete-node"
    STATUS = "status"
    RULES = "rules"
    """What the scheduler asks, by pod owner: a read that is about no Node."""


class NodeCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the node-command document (docs/node-commands.md)."""

    verb: Verb
    node_name: str
    """Empty for an inspection, which finds the Node by its provider-id, and for `rules`."""
    provider_id: str
    """The provider-id that the Node must carry; empty for what is about no Node."""
    operation_id: str
    """A repeat of an operation id and verb returns the first result."""
    fence: int
    """Lower than the Node's annotation: refused."""
    not_after_s: int
    """Later than this: refused."""
    timeout_s: int
    """How long a drain may take."""
    grace_s: int = -1
    """Grace period that overrides the pods' own; -1 leaves theirs."""
    reclaim: bool = False
    """The machine goes away whatever we do: only the identity and control-plane checks."""


class CommandRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node command that was sent: where its result is asked for."""

    command_id: str
    server_id: str
    sent_at_s: int


class RemovalOperation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="removal"
):
    """One worker on its way out."""

    operation_id: str
    created_at_s: int
    reason: str
    instance_id: str
    node_name: str
    """Empty for an instance that never became a Node."""
    provider_id: str
    phase: RemovalPhase
    phase_since_s: int
    fence: int
    """The fence of the phase's intent: a command of an earlier phase is refused by the node once a later one spoke."""
    not_after_s: int
    """The script refuses to start later than this."""
    reclaim: bool = False
    """The machine goes away whatever we do: short grace, no take-back."""
    due_at_s: int | None = None
    """When EC2 takes a machine that is reclaimed; None where nobody said."""
    held_since_s: int | None = None
    """Since when the present look speaks against ending the machine: no terminate is sent meanwhile."""
    command: CommandRef | None = None
    attempts: int = 0
    absent_since_s: int | None = None
    failure: str = ""
    """Why the drain was given up, for the phase `uncordoning`; or what was overruled (`drain.force`) to terminate."""
    told_failure: str = ""
    """As of a launch: cause of the failed call of this phase that people know of."""
    retry_at_s: int | None = None
    """EC2 refused to end it, `attempts` times: not tried again before."""
    scale_down: bool = False
    """For want of load: where it is given up after something went, a cool-down follows."""
