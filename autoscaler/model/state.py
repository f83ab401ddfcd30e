"""What is remembered from look to look: the state item of a cluster."""

from enum import StrEnum

import msgspec

from autoscaler.model.forecast import KeptForecast
from autoscaler.model.observed import Resources
from autoscaler.model.operations import CommandRef, LaunchOperation, Pool, RemovalOperation
from autoscaler.model.signals import AsideSignal


class Mode(StrEnum):
    """What the autoscaler may do."""

    ACTIVE = "active"
    OBSERVE = "observe"
    PAUSED = "paused"


class ModeSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's word. It ends at `until_s`, or stays; when it has ended, `then` holds, None being the policy's."""

    mode: Mode
    set_at_s: int
    until_s: int | None = None
    by: str = ""
    then: Mode | None = None


class PolicyOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an operator changed about the deployed policy since, as Parameter Store held it: the last that was valid."""

    version: int = 0
    """Of the parameter; 0: no version was valid yet."""
    text: str = ""
    """YAML, laid over the deployed policy; kept here, so that each look has it without a call, and the last good one
    outlives a bad one."""
    changed_at_s: int = 0
    """When Parameter Store got the version that was seen last, valid or not."""
    invalid_version: int = msgspec.field(default=0, name="refused_version")
    """A later version that is not valid; 0: there is none."""
    invalid: str = msgspec.field(default="", name="refused")
    """Why it is not."""

    @property
    def seen_version(self) -> int:
        """The version that was seen last."""
        return self.invalid_version or self.version


class OfferedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What Parameter Store holds now."""

    text: str | None
    """None: there is no such parameter."""
    version: int = 0
    changed_at_s: int = 0


class Lease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who acts now, and until when at the latest."""

    owner: str
    expires_at_s: int


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fact that no observation shows, brought by a trigger."""

    kind: str
    """`interruption`, `rebalance`, `retirement` or `blind_alert`; `orphan` and `stopped` are repair's own notes."""
    subject: str
    """An instance id, or `fingerprint@startsAt` of an alert."""
    received_at_s: int
    handled: bool = False
    due_at_s: int | None = None
    """When EC2 takes the machine; None where the notice did not say."""
    replaced: bool = False
    """A worker was launched in its place already."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pool that EC2 gave nothing of, or all of them (state/backoffs.py)."""

    pool: Pool
    error_code: str
    until_s: int
    failures: int


class HeldWorker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A worker whose removal was refused or failed: not nominated again before `until_s`, and after all others then."""

    node_name: str
    """Or the instance id of a worker without a Node."""
    reason: str
    until_s: int
    failures: int = 1
    by_ec2: bool = False
    """EC2 would not end it: of a machine that is gone all the same that says nothing."""


class Removed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """A worker whose removal ended: metrics that are older than its end may still show the Node."""

    instance_id: str
    ended_at_s: int


class Joined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """A worker whose launch is over: a list of EC2 that is older than the launch does not show it yet."""

    instance_id: str
    joined_at_s: int
    pool: str
    market: str


class OwnerLaunches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Launches made for the pods of one owner, so that a launch that did not help is not repeated for ever."""

    owner: str
    launched_at_s: int
    zones: tuple[str, ...]
    unhelped: int = 0
    retry_at_s: int = 0
    waiting: int = 0
    """Its pods that waited when it was launched for them: fewer wait once it has settled if it helped. 0: not noted."""
    decision_id: str = ""
    """Of the decision that launched for it last: ids of its launches begin with that. Empty in older states."""


class SeenType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What workers of one instance type were like: what a new one will be where none is left to look at."""

    instance_type: str
    allocatable: Resources
    """The smallest that was seen, each dimension by itself."""
    daemons: Resources = Resources()
    """What the DaemonSets on such a worker request together; `pods` is how many there are."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that all of ours had, beyond those that every worker has by itself."""


class MovedOwner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Pods of this owner were moved by a removal: one that is undone or followed by a launch is not repeated soon."""

    owner: str
    moved_at_s: int
    in_vain: int = 0
    """How often in a row that removal was undone, or a launch followed for these pods within the hour."""
    until_s: int = 0
    """Not moved again before, once it was in vain."""


class Replacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A worker that goes once what was launched for it is Ready: launched before drained. One at a time."""

    instance_id: str
    """Who goes."""
    reason: str
    """`rotation` or `cheaper`: of its launch and of its removal."""
    cause: str
    """What it is replaced for: `max_age`, `template`, `image`, `k3s_version` or `cheaper`."""
    why: str
    """The same for a person."""
    began_at_s: int
    launched_by: str
    """Decision id: ids of the launches for it begin with that, and so do the tags of their instances."""
    count: int = 1
    """How many were launched for it."""
    drains: bool = False
    """Its removal was begun."""


class ReplacementFailed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Replacements in a row that came to nothing: none begins before `retry_at_s`."""

    failures: int
    retry_at_s: int
    why: str
    reason: str
    """Of the last one, as `Replacement.reason`."""
    launched_by: str
    """Of the last one: what was launched for it stands in for the next one of the same reason while it is empty."""


class JoinFailures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Launches in a row of which no worker came and stayed: a broken image or network is not cured by launching on.

    What we removed, and what EC2 took, is none of them: only a launch's own worker that did not come or did not last.
    """

    failures: int
    failed_at_s: int
    """When the last one was given up: launches older than that belong to the same wave, and count once."""
    until_s: int
    after_ready: bool = False
    """A worker was Ready and lost soon after: being Ready proves nothing any more, only staying so does."""
    cause: str = ""
    """Why EC2 ended the last one, in EC2's words; empty where it lived, or EC2 gave no reason."""


class ZoneJoins(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How launches in one zone fared: where they do not join while they do elsewhere, the zone is left out."""

    zone: str
    failures: int = 0
    """Launches in a row of which no worker came."""
    since_s: int = 0
    """When the first of them was sent."""
    failed_at_s: int = 0
    """When the last one was given up: launches older than that belong to the same wave, and count once."""
    until_s: int = 0
    """Others come first until then."""
    joined_at_s: int | None = None
    """When a worker launched there was last seen Ready."""


class SpotReturn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An on-demand worker of a Spot pool that is being replaced by Spot, or the wait after that was in vain."""

    instance_id: str = ""
    """The worker that shall go; empty where none is being replaced."""
    decision_id: str = ""
    """Ids of the launch in its place begin with that."""
    draining: bool = False
    """Its removal was opened: what is left of it then came back."""
    failures: int = 0
    """Returns in a row that were in vain."""
    until_s: int = 0
    """None is begun before."""


class RulesQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the scheduler asks is being asked of a server, or was in vain.

    It changes nothing in the cluster, so neither a lease nor a fence guards it: the compare-and-set of the state lets
    one invocation ask at a time, and any of them take the answer.
    """

    asked_by: str = ""
    """The invocation that is about to send it; empty once it was sent, or has failed."""
    command: CommandRef | None = None
    """Where the answer is; None while it is about to be sent, and once it has failed."""
    failures: int = 0
    """Servers asked in vain in a row; the next question goes to the next server."""
    retry_at_s: int = 0
    """Without a command: not asked again before."""
    problem: str = ""
    """Why the last one failed."""


class Notified(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many messages people got in the hour that began then, and how many were too many since the last one."""

    hour_began_s: int
    told: int
    withheld: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole truth about what is under way: one item, one compare-and-set. Changed only by functions of `state/`."""

    schema: int = 1
    fence: int = 0
    lease: Lease | None = None
    mode: ModeSetting | None = None
    launches: tuple[LaunchOperation, ...] = ()
    removals: tuple[RemovalOperation, ...] = ()
    notices: tuple[Notice, ...] = ()
    backoffs: tuple[Backoff, ...] = ()
    held_workers: tuple[HeldWorker, ...] = msgspec.field(default=(), name="refusals")
    """Stored under the name that it had first, as `PolicyOverride.invalid` is: older versions read the state, too."""
    removed: tuple[Removed, ...] = ()
    """Removals that ended, until the metrics are newer than that."""
    joined: tuple[Joined, ...] = ()
    """Workers that joined, until DescribeInstances lists them for certain."""
    owners: tuple[OwnerLaunches, ...] = ()
    seen_types: tuple[SeenType, ...] = ()
    moved: tuple[MovedOwner, ...] = ()
    replacement: Replacement | None = None
    replacement_failed: ReplacementFailed | None = None
    join_failures: JoinFailures | None = None
    spot_return: SpotReturn | None = None
    zones: tuple[ZoneJoins, ...] = ()
    """How launches fared lately, by zone."""
    join_times_s: tuple[int, ...] = ()
    """How long after their launch the last workers were seen Ready, the newest last: schedules look that far ahead."""
    last_scale_up_s: int | None = None
    last_scale_down_s: int | None = None
    last_undone_s: int | None = None
    """When a removal was last given up after pods or room had gone: it was no harmless one, and a cool-down follows."""
    told_refusal: str = ""
    """Reason code of the refusal that people know of: it is told and recorded once, until it changes or ends."""
    told_codes: tuple[str, ...] = ()
    """Error codes of EC2 that people know of: each is told and recorded once, until no back-off has it any more."""
    notified: Notified | None = None
    observed: str = ""
    """What observe mode would have done, as the history has it: recorded once, until it is something else."""
    signals_aside: tuple[AsideSignal, ...] = ()
    forecast: KeptForecast | None = None
    unlisted_workers: int | None = None
    """Workers that the last look at the whole cluster saw and EC2's list does not show (static ones without the tag).

    They count against max while Prometheus cannot be asked. None: the cluster was never seen.
    """
    node_count: int | None = None
    """Ready workers at the last write; for people and dashboards, never read to decide."""
    rules_question: RulesQuestion | None = None
    policy_override: PolicyOverride | None = None
    """None: the deployed policy holds alone."""
    rules_answered_at_s: int | None = None
    """How old the kept rules are: when the question was sent that a server answered last. None: none ever did."""
