"""`status` for a person: the verdict first, then what it rests on."""

from typing import Any, Final

from rich.console import Console

from autoscaler.cli.duration import say_duration
from autoscaler.cli.history.shown import show_history
from autoscaler.cli.mode.words import say_mode
from autoscaler.cli.stacks import POLICY_OUTPUT
from autoscaler.cli.status.looks import LONGEST_S, Seen
from autoscaler.cli.status.values import VERSION_OUTPUT, Gathered
from autoscaler.cli.status.verdict import Health
from autoscaler.cli.tables import line, table
from autoscaler.cli.times import ago, moment, of_utc
from autoscaler.model import LaunchOperation, PolicyOverride, RemovalOperation, SpotReturn, State
from autoscaler.state.backoffs import LAUNCH_PATH

STYLES: Final = {Health.ALIVE: "green", Health.TROUBLED: "yellow", Health.DEAD: "red", Health.UNKNOWN: "yellow"}
UNKNOWN: Final = "unknown"


def show_status(console: Console, gathered: Gathered) -> None:
    """Print all of it."""
    judged = gathered.verdict
    line(console, gathered.cluster_id, judged.said, style=STYLES[judged.health])
    _looks(console, gathered)
    policy_mode = str(gathered.policy.mode) if gathered.policy is not None else None
    line(console, "mode", say_mode(gathered.state.mode, policy_mode, gathered.now_s))
    _deployed(console, gathered)
    if not gathered.stored:
        console.print("No state is stored for this cluster yet: it has never scaled, or the name is another one.")
        return
    _fleet(console, gathered)
    _under_way(console, gathered)
    _left_alone(console, gathered)
    show_history(console, gathered.decisions, title="last decisions")


def _looks(console: Console, gathered: Gathered) -> None:
    seen = {
        **{f"last {kind}": one for kind, one in gathered.looks.by_trigger.items()},
        "Watchdog": gathered.looks.watchdog,
    }
    reasons = {one.unknown for one in seen.values()}
    if len(reasons) == 1 and (reason := reasons.pop()):
        line(console, "last looks", f"{UNKNOWN}: {reason}")
        return
    for name, one in seen.items():
        line(console, name, _say_seen(one, gathered.now_s))


def _say_seen(seen: Seen, now_s: int) -> str:
    if seen.unknown:
        return f"{UNKNOWN}: {seen.unknown}"
    if seen.at_s is None:
        return f"none for {say_duration(LONGEST_S)}"
    what = "failed" if seen.failed else str(seen.line.get("message", ""))
    return f"{say_duration(now_s - seen.at_s)} ago, {moment(seen.at_s)}: {what}"


def _deployed(console: Console, gathered: Gathered) -> None:
    version = gathered.outputs.get(VERSION_OUTPUT)
    line(console, "deployed", version or f"{UNKNOWN}: give --stage, whose stack tells it")
    told = gathered.newest.get("policy_hash")
    hashed = (
        f"policy_hash {told}, in the last look"
        if told
        else f"policy_hash {gathered.outputs.get(POLICY_OUTPUT, UNKNOWN)}"
    )
    if gathered.state.policy_override is not None:
        hashed += f"; {_say_override(gathered.state.policy_override)}"
    if gathered.policy is not None and told and gathered.deployed_policy is None:
        hashed += "; the policy file here is another one"
    line(console, "policy", hashed)


def _fleet(console: Console, gathered: Gathered) -> None:
    state, now_s, newest = gathered.state, gathered.now_s, gathered.newest
    line(console, "workers", _say_nodes(newest.get("nodes")))
    if newest.get("nodes") is None:
        count = UNKNOWN if state.node_count is None else f"{state.node_count} (at the last write)"
        line(console, "ready workers", count)
    line(console, "metrics", str(newest.get("metrics_status") or f"{UNKNOWN}: no look is known"))
    line(console, "cost", say_cost(gathered.cost))
    line(console, "last growth", ago(state.last_scale_up_s, now_s))
    line(console, "last removal", ago(state.last_scale_down_s, now_s))
    for wait in gathered.waits:
        line(console, wait["name"], _say_wait(wait))
    line(console, "lease", _say_lease(state, now_s))


def _say_wait(wait: dict[str, Any]) -> str:
    if wait["left_s"] is None:
        return f"{UNKNOWN}: the deployed policy is not here (--policy)"
    return f"{wait['holds']} wait {say_duration(wait['left_s'])} more: {wait['why']}" if wait["left_s"] else "over"


def _say_nodes(nodes: Any) -> str:
    if not isinstance(nodes, dict):
        return f"{UNKNOWN}: no look is known"
    ready, desired = (UNKNOWN if nodes.get(name) is None else str(nodes[name]) for name in ("ready", "desired"))
    moving = [f"{nodes[name]} {name}" for name in ("joining", "draining") if nodes.get(name)]
    held = f"min {nodes.get('min')}, max {nodes.get('max')}"
    return ", ".join([f"{ready} ready, {desired} desired", *moving, held])


def say_cost(cost: dict[str, Any] | None) -> str:
    """Dollars an hour and a month, for how many workers, and as of when."""
    if cost is None:
        return f"{UNKNOWN}: no decision tells it"
    workers, unknown, saved = (cost.get(f) for f in ("known_workers", "unknown_workers", "saved_usd_per_hour"))
    said = f"${cost['usd_per_hour']:.4f} an hour, ${cost['usd_per_month']:.2f} a month"
    said += f" for {workers} worker{'' if workers == 1 else 's'}"
    if unknown != 0:
        said += f", and {'others' if unknown is None else unknown} of unknown price"
    if saved is not None:
        said += f", ${abs(saved):.4f} an hour {'less' if saved >= 0 else 'more'} than the baseline"
    return f"{said} (as of {of_utc(cost['told_at']) or 'an unknown time'})"


def _under_way(console: Console, gathered: Gathered) -> None:
    under_way: list[LaunchOperation | RemovalOperation] = [*gathered.state.launches, *gathered.state.removals]
    rows = [_operation_row(one, told) for one, told in zip(under_way, gathered.operations, strict=True)]
    table(console, "open operations", ("kind", "id", "phase", "for", "what"), rows, empty="none")
    table(
        console,
        "notices",
        ("kind", "about", "received", "handled"),
        [
            (n.kind, n.subject, ago(n.received_at_s, gathered.now_s), "yes" if n.handled else "no")
            for n in gathered.state.notices
        ],
    )


def _operation_row(operation: LaunchOperation | RemovalOperation, told: dict[str, Any]) -> tuple[str, ...]:
    age = say_duration(told["age_s"])
    if told["stuck"] is None:
        age += " (stuck: unknown)"
    elif told["stuck"]:
        age += " STUCK"
    return (str(told["kind"]), operation.operation_id, str(told["phase"]), age, _what(operation))


def _what(operation: LaunchOperation | RemovalOperation) -> str:
    if isinstance(operation, LaunchOperation):
        count = operation.request.count
        known = f", {', '.join(operation.instance_ids)}" if operation.instance_ids else ""
        return f"{count} worker{'s' if count != 1 else ''} for {operation.reason}{known}"
    what = f"{operation.node_name or operation.instance_id} ({operation.instance_id}) for {operation.reason}"
    return f"{what}; given up: {operation.failure}" if operation.failure else what


def _left_alone(console: Console, gathered: Gathered) -> None:
    state, now_s = gathered.state, gathered.now_s
    table(
        console,
        "back-offs",
        ("pool", "why", "for"),
        [
            (
                "every launch" if b.pool == LAUNCH_PATH else f"{b.pool.instance_type} {b.pool.zone} {b.pool.market}",
                b.error_code,
                _left(b.until_s, now_s),
            )
            for b in state.backoffs
        ],
    )
    table(
        console,
        "zones in which launches did not join",
        ("zone", "in a row", "others first for"),
        [(z.zone, str(z.failures), _left(z.until_s, now_s)) for z in state.zones if z.failures],
    )
    if state.spot_return is not None:
        line(console, "return to Spot", _say_return(state.spot_return, now_s))
    table(
        console,
        "workers that stay for now",
        ("node", "why", "for"),
        [(r.node_name, r.reason, _left(r.until_s, now_s)) for r in state.held_workers if r.until_s > now_s],
    )


def _left(until_s: int, now_s: int) -> str:
    return say_duration(until_s - now_s) if until_s > now_s else "over"


def _say_return(record: SpotReturn, now_s: int) -> str:
    if record.instance_id:
        return f"{record.instance_id} is being {'drained' if record.draining else 'replaced'}"
    left_s = record.until_s - now_s
    wait = f", none is begun for {say_duration(left_s)}" if left_s > 0 else ""
    return f"{record.failures} in a row were in vain{wait}"


def _say_override(override: PolicyOverride) -> str:
    """Whether somebody has changed the policy live."""
    if override.invalid_version:
        return f"live changes, version {override.invalid_version} refused: `k3s-autoscaler policy show`"
    return f"live changes, version {override.version}: `k3s-autoscaler policy show`"


def _say_lease(state: State, now_s: int) -> str:
    if state.lease is None:
        return "free"
    if state.lease.expires_at_s <= now_s:
        return f"expired {say_duration(now_s - state.lease.expires_at_s)} ago, was {state.lease.owner}'s"
    return f"held by {state.lease.owner} for {say_duration(state.lease.expires_at_s - now_s)} at most"
