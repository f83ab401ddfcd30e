"""`k3s-autoscaler pause`, `observe`, `resume`."""

import time

import typer

from autoscaler.aws.clock import SortableIds
from autoscaler.cli.ending import in_a_sentence, told
from autoscaler.cli.mode.change import change_mode, tell_history
from autoscaler.cli.mode.words import say_mode
from autoscaler.cli.options import For, seconds
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.who import who
from autoscaler.model import Mode, ModeSetting
from autoscaler.ports import PortError


@aimed
def pause(*, target: Target, duration: For = "") -> None:
    """Stop until `resume`, or for a while.

    Nothing is launched, drained or terminated; what EC2 and the servers are doing already goes on. The history keeps
    who did it.
    """
    _set(Mode.PAUSED, target, duration)


@aimed
def observe(*, target: Target, duration: For = "") -> None:
    """Decide and tell, do nothing."""
    _set(Mode.OBSERVE, target, duration)


@aimed
def resume(*, target: Target) -> None:
    """Decide and act."""
    _set(Mode.ACTIVE, target, "")


def _set(mode: Mode, target: Target, duration: str) -> None:
    now_s, store = int(time.time()), target.store()
    until_s = now_s + seconds(duration) if duration else None
    setting = ModeSetting(mode=mode, set_at_s=now_s, until_s=until_s, by=who(target.clients))
    with told():
        change = change_mode(store, setting)
    said = f"{say_mode(change.before, None, now_s)} -> {say_mode(change.after, None, now_s)}"
    typer.echo(f"{target.cluster_id}: {said}")
    try:
        tell_history(store, change, cluster_id=target.cluster_id, record_id=SortableIds().new(), message=said)
    except PortError as error:
        typer.echo(in_a_sentence(f"the mode is changed, but the history does not tell of it: {error}"), err=True)
    if not change.existed:
        typer.echo(
            f"No state was stored for {target.cluster_id} in {target.table} before: right for a cluster that has never "
            "scaled, else check the name.",
            err=True,
        )
