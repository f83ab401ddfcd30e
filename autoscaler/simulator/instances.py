"""One EC2 instance: what it is at a time, and the row that DescribeInstances gives of it."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from autoscaler.model import ON_DEMAND, InstanceState

STATE_CODES: Final = {
    InstanceState.PENDING: 0,
    InstanceState.RUNNING: 16,
    InstanceState.SHUTTING_DOWN: 32,
    InstanceState.TERMINATED: 48,
    InstanceState.STOPPING: 64,
    InstanceState.STOPPED: 80,
}


@dataclass(slots=True, eq=False)
class SimInstance:
    """One EC2 instance."""

    instance_id: str
    instance_type: str
    zone: str
    subnet_id: str
    ip: str
    image_id: str
    tags: dict[str, str]
    launched_at_s: float
    running_at_s: float
    market: str = ON_DEMAND
    """`spot`: EC2 may take it back."""
    noticed_at_s: float | None = None
    """When EC2 gave notice that it takes it back."""
    ended_at_s: float | None = None
    """When its end began."""
    terminated_at_s: float | None = None
    stopping_at_s: float | None = None
    """When a person stopped it; None while it is started."""
    stopped_at_s: float | None = None
    started_again: bool = False
    """Its launch time is then; it was listed long before."""
    _told: tuple[tuple[InstanceState, float, dict[str, str]], dict[str, Any]] | None = None
    """The last row, and what it was made of; the rest of an instance never changes."""

    def state(self, now_s: float) -> InstanceState:
        """Its state at a time."""
        if self.terminated_at_s is not None and now_s >= self.terminated_at_s:
            return InstanceState.TERMINATED
        if self.ended_at_s is not None and now_s >= self.ended_at_s:
            return InstanceState.SHUTTING_DOWN
        if self.stopping_at_s is not None and now_s >= self.stopping_at_s:
            gone = self.stopped_at_s is not None and now_s >= self.stopped_at_s
            return InstanceState.STOPPED if gone else InstanceState.STOPPING
        return InstanceState.RUNNING if now_s >= self.running_at_s else InstanceState.PENDING

    def row(self, now_s: float) -> dict[str, Any]:
        """As boto3's DescribeInstances writes it; a terminated instance has lost its network."""
        mark = (self.state(now_s), self.launched_at_s, self.tags)
        if self._told is None or self._told[0] != mark:
            self._told = ((*mark[:2], dict(self.tags)), self._row(mark[0]))
        return self._told[1]

    def _row(self, state: InstanceState) -> dict[str, Any]:
        row: dict[str, Any] = {
            "InstanceId": self.instance_id,
            "ImageId": self.image_id,
            "State": {"Code": STATE_CODES[state], "Name": state.value},
            "PrivateDnsName": "",
            "InstanceType": self.instance_type,
            "LaunchTime": dt.datetime.fromtimestamp(int(self.launched_at_s), tz=dt.UTC),
            "Placement": {"AvailabilityZone": self.zone, "GroupName": "", "Tenancy": "default"},
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
        }
        if self.market != ON_DEMAND:
            row["InstanceLifecycle"] = self.market
        if state is not InstanceState.TERMINATED:
            row["PrivateDnsName"] = f"ip-{self.ip.replace('.', '-')}.ec2.internal"
            row["PrivateIpAddress"] = self.ip
            row["SubnetId"] = self.subnet_id
        return row
