"""A state in which all happens at once."""

from autoscaler.model import (
    Backoff,
    JoinFailures,
    Lease,
    Mode,
    ModeSetting,
    Notice,
    Pool,
    Refusal,
    SpotReturn,
    State,
    ZoneJoins,
)
from autoscaler.state.backoffs import LAUNCH_PATH
from tests.aws.test_dynamodb import FULL


def busy(now_s: int) -> State:
    return State(
        fence=7,
        lease=Lease(owner="01abc", expires_at_s=now_s + 20),
        mode=ModeSetting(mode=Mode.PAUSED, set_at_s=now_s - 60, until_s=now_s - 1, by="ada@desk"),
        launches=FULL.launches,
        removals=FULL.removals,
        notices=(Notice(kind="interruption", subject="i-3", received_at_s=now_s - 30),),
        backoffs=(
            Backoff(
                pool=Pool(instance_type="t3.small", zone="z1"), error_code="NoRoom", until_s=now_s + 90, failures=1
            ),
            Backoff(pool=LAUNCH_PATH, error_code="Blocked", until_s=now_s + 90, failures=1),
        ),
        refusals=(Refusal(node_name="n9", reason="local-volume", until_s=now_s + 600),),
        zones=(ZoneJoins(zone="z1", failures=2, until_s=now_s + 90), ZoneJoins(zone="z2", joined_at_s=now_s)),
        spot_return=SpotReturn(failures=3, until_s=now_s + 90),
        join_failures=JoinFailures(failures=2, failed_at_s=now_s - 60, until_s=now_s + 300),
        last_scale_up_s=now_s - 60,
        node_count=4,
    )
