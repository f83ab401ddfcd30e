"""Which zones a launch may go to, and in what order: even ones first; not where launches do not join."""

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from autoscaler.model import Blocked, State
from autoscaler.state.zones import is_doubtful, is_left_out, record_of


class Zones:
    """The zones of one plan. Who is left out for its failures gets one worker at a time once its wait is over.

    That probe goes along with another worker, so that no pod waits for it alone; alone only where no other zone may be.
    """

    def __init__(self, zones: Sequence[str], in_zone: Counter[str], state: State, *, now_s: int) -> None:
        self._in_zone, self._now_s = in_zone, now_s
        self._out = {zone: record_of(state, zone) for zone in zones if is_left_out(state, zone)}
        self._doubtful = {zone for zone in zones if is_doubtful(state, zone, now_s=now_s)}
        under_way = {launch.request.overrides[0].zone for launch in state.launches if launch.request.overrides}
        self._probes = {z for z, record in self._out.items() if now_s >= record.until_s and z not in under_way}
        self._given = 0
        self.every = tuple(zones)

    def take(self, open_zones: Iterable[str], *, tried: Container[str], pinned: bool) -> str | None:
        """The zone of the next worker; None where all that are open are left out now."""
        each = tuple(open_zones)
        alone = pinned or self._out.keys() >= set(each)
        may = [z for z in each if z not in self._out or (z in self._probes and (self._given or alone))]
        if not may:
            return None
        zone = min(may, key=lambda z: (z in tried, z in self._doubtful, self._in_zone[z], z))
        self._probes.discard(zone)
        self._in_zone[zone] += 1
        self._given += 1
        return zone

    def instead(self, open_zones: Iterable[str], zone: str) -> str:
        """Where what a zone's Spot does not give is launched: there if it may be, else in the emptiest; or nowhere."""
        may = [z for z in open_zones if z == zone or z not in self._out]
        return zone if zone in may else min(may, key=lambda z: (self._in_zone[z], z), default="")

    def told(self, zones: Iterable[str]) -> tuple[Blocked, ...]:
        """Which of these are left out, and why."""
        return tuple(
            Blocked(subject=zone, code="zone_left_out", text=self._why(zone)) for zone in zones if zone in self._out
        )

    def _why(self, zone: str) -> str:
        record = self._out[zone]
        left_s = record.until_s - self._now_s
        then = f"left out for {left_s} s" if left_s > 0 else "one worker at a time is tried there"
        return f"{record.failures} launches in a row did not join there while others did elsewhere: {then}"
