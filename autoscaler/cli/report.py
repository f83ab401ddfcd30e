"""What `status` and `history` show: plain values first, tables for terminals after."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoscaler.cli.duration import say_duration
from autoscaler.model import LaunchOperation, ModeSetting, PolicyOverride, RemovalOperation, SpotReturn, State
from autoscaler.state.backoffs import LAUNCH_PATH
from autoscaler.state.modes import operators_mode


def moment(at_s: int) -> str:
    """An instant, in UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at_s: int | None, now_s: int) -> str:
    """An instant and how long ago it was."""
    return "never" if at_s is None else f"{moment(at_s)} ({say_duration(now_s - at_s)} ago)"


def say_mode(setting: ModeSetting | None, policy_mode: str | None, now_s: int) -> str:
    """The mode in words: whose it is and how long it holds."""
    policy = f"the policy's mode ({policy_mode})" if policy_mode else "the policy's mode"
    if setting is None:
        return policy
    by = f", set {moment(setting.set_at_s)}" + (f" by {setting.by}" if setting.by else "")
    if setting.until_s is None:
        return f"{setting.mode}{by}"
    then = setting.then or policy
    if setting.until_s <= now_s:
        return f"{then}; {setting.mode} ended {moment(setting.until_s)}"
    left = say_duration(setting.until_s - now_s)
    return f"{setting.mode} until {moment(setting.until_s)} ({left} left){by}, then {then}"


def say_cost(decisions: Iterable[Mapping[str, Any]]) -> str:
    """What the workers cost an hour, as the newest recorded decision that looked saw it (docs/policy/cost.md)."""
    for decision in decisions:
        cost = decision.get("cost")
        if not isinstance(cost, Mapping):
            continue  # nobody looked, or it is older than that field
        workers, unknown, saved = (cost.get(f) for f in ("known_workers", "unknown_workers", "saved_usd_per_hour"))
        said = f"${cost.get('usd_per_hour', 0):.4f} an hour for {workers} worker{'' if workers == 1 else 's'}"
        if unknown != 0:
            said += f", and {'others' if unknown is None else unknown} of unknown price"
        if saved is not None:
            said += f", ${abs(saved):.4f} {'less' if saved >= 0 else 'more'} than the baseline"
        return f"{said} (recorded {decision.get('decided_at', 'at an unknown time')})"
    return "unknown: no recorded decision tells it"


def status_document(
    state: State, *, cluster_id: str, policy_mode: str | None, now_s: int, decisions: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything that `status` knows, for programs."""
    return {
        "cluster_id": cluster_id,
        "now_s": now_s,
        "mode": operators_mode(state.mode, now_s) or policy_mode,
        "mode_setting": msgspec.to_builtins(state.mode),
        "policy_mode": policy_mode,
        "policy_override": _whole(state.policy_override) if state.policy_override is not None else None,
        "lease": msgspec.to_builtins(state.lease),
        "fence": state.fence,
        "ready_workers": state.node_count,
        "last_scale_up_s": state.last_scale_up_s,
        "last_scale_down_s": state.last_scale_down_s,
        "operations": [_whole(operation) for operation in (*state.launches, *state.removals)],
        "notices": [_whole(notice) for notice in state.notices],
        "backoffs": msgspec.to_builtins(state.backoffs),
        "refusals": msgspec.to_builtins(state.refusals),
        "zones": [_whole(zone) for zone in state.zones],
        "spot_return": None if state.spot_return is None else _whole(state.spot_return),
        "decisions": decisions,
    }


def _whole(stored: msgspec.Struct) -> dict[str, Any]:
    """Every field: what is stored leaves defaults out, and programs read this."""
    told: dict[str, Any] = msgspec.to_builtins(stored)
    whole: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(stored))
    return told | whole


def show_status(
    console: Console,
    state: State,
    *,
    cluster_id: str,
    stored: bool,
    policy_mode: str | None,
    now_s: int,
    decisions: list[dict[str, Any]],
) -> None:
    """Print `status` for a person."""
    _line(console, "cluster", cluster_id)
    _line(console, "mode", say_mode(state.mode, policy_mode, now_s))
    if not stored:
        console.print("No state is stored for this cluster yet: it has never scaled, or the name is another one.")
        return
    if state.policy_override is not None:
        _line(console, "policy", _say_override(state.policy_override))
    _line(console, "lease", _say_lease(state, now_s))
    _line(
        console, "ready workers", "unknown" if state.node_count is None else f"{state.node_count} (at the last write)"
    )
    _line(console, "cost", say_cost(decisions))
    _line(console, "last growth", ago(state.last_scale_up_s, now_s))
    _line(console, "last removal", ago(state.last_scale_down_s, now_s))
    _table(
        console,
        "open operations",
        ("kind", "id", "phase", "open for", "what"),
        [*map(_launch_row(now_s), state.launches), *map(_removal_row(now_s), state.removals)],
        empty="none",
    )
    _table(
        console,
        "notices",
        ("kind", "about", "received", "handled"),
        [(n.kind, n.subject, ago(n.received_at_s, now_s), "yes" if n.handled else "no") for n in state.notices],
    )
    _table(
        console,
        "back-offs",
        ("pool", "why", "for"),
        [
            (
                "every launch" if b.pool == LAUNCH_PATH else f"{b.pool.instance_type} {b.pool.zone} {b.pool.market}",
                b.error_code,
                say_duration(b.until_s - now_s) if b.until_s > now_s else "over",
            )
            for b in state.backoffs
        ],
    )
    _table(
        console,
        "zones in which launches did not join",
        ("zone", "in a row", "others first for"),
        [
            (z.zone, str(z.failures), say_duration(z.until_s - now_s) if z.until_s > now_s else "over")
            for z in state.zones
            if z.failures
        ],
    )
    if state.spot_return is not None:
        _line(console, "return to Spot", _say_return(state.spot_return, now_s))
    _table(
        console,
        "workers that stay for now",
        ("node", "why", "for"),
        [(r.node_name, r.reason, say_duration(r.until_s - now_s)) for r in state.refusals if r.until_s > now_s],
    )
    show_history(console, decisions, title="last decisions")


def _say_return(record: SpotReturn, now_s: int) -> str:
    if record.instance_id:
        return f"{record.instance_id} is being {'drained' if record.draining else 'replaced'}"
    left_s = record.until_s - now_s
    wait = f", none is begun for {say_duration(left_s)}" if left_s > 0 else ""
    return f"{record.failures} in a row were in vain{wait}"


def show_history(console: Console, decisions: Iterable[Mapping[str, Any]], *, title: str = "decisions") -> None:
    """Print decisions for a person, the newest first."""
    rows = [
        tuple(str(decision.get(field, "")) for field in ("decided_at", "action", "reason", "message"))
        for decision in decisions
    ]
    _table(console, title, ("time", "action", "reason", "what"), rows, empty="none recorded")


def _say_override(override: PolicyOverride) -> str:
    """Whether somebody has changed the policy live."""
    if override.refused_version:
        return f"live changes, version {override.refused_version} refused: `k3s-autoscaler policy show`"
    return f"live changes, version {override.version}: `k3s-autoscaler policy show`"


def _say_lease(state: State, now_s: int) -> str:
    if state.lease is None:
        return "free"
    if state.lease.expires_at_s <= now_s:
        return f"expired {say_duration(now_s - state.lease.expires_at_s)} ago, was {state.lease.owner}'s"
    return f"held by {state.lease.owner} for {say_duration(state.lease.expires_at_s - now_s)} at most"


def _launch_row(now_s: int) -> Any:
    def row(operation: LaunchOperation) -> tuple[str, ...]:
        request = operation.request
        phase = "joining" if operation.landed else "sent"
        known = f", {', '.join(operation.instance_ids)}" if operation.instance_ids else ""
        what = f"{request.count} worker{'s' if request.count != 1 else ''} for {operation.reason}{known}"
        return ("launch", operation.operation_id, phase, say_duration(now_s - operation.created_at_s), what)

    return row


def _removal_row(now_s: int) -> Any:
    def row(operation: RemovalOperation) -> tuple[str, ...]:
        what = f"{operation.node_name or operation.instance_id} ({operation.instance_id}) for {operation.reason}"
        if operation.failure:
            what += f"; given up: {operation.failure}"
        age = say_duration(now_s - operation.created_at_s)
        return ("removal", operation.operation_id, str(operation.phase), age, what)

    return row


def _line(console: Console, name: str, value: str) -> None:
    console.print(Text(f"{name:<16} ", style="bold") + Text(value, style="default"), soft_wrap=True)


def _table(
    console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], *, empty: str = ""
) -> None:
    """A table on a terminal; in a pipe one line a row, fields separated by tabs. Without rows: `empty`, or nothing."""
    if not rows:
        if empty:
            _line(console, title, empty)
        return
    if not console.is_terminal:
        for row in rows:
            # Not console.print: it turns tabs into spaces.
            console.file.write("\t".join(" ".join(field.split()) for field in (title, *row)) + "\n")
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
