"""What the soak takes for granted of the world outside, in one place; docs/reliability.md repeats it for people.

Everything else may happen: any call may fail before or after its effect, any invocation may end at any call, any
trigger may come late, twice or never, Prometheus and SSM may say anything that their faults can make them say.
"""

from typing import Final

REPLAYS_TOKENS: Final = True
"""EC2 answers a repeated ClientToken with the first answer and launches nothing, for at least a day.

Source: EC2 API reference, "Ensuring idempotency in Amazon EC2 API requests". One seed in six does without (emulators
ignore the token): there, a launch is visible at once and lands before its caller's end, and the tag alone must do.
"""
VISIBLE_WITHIN_S: Final = 60.0
"""V: a row of DescribeInstances is at most this old; until then an instance may be listed, and missing again."""
LANDS_LATE_S: Final = 10.0
"""L: a call whose caller died or gave up takes effect at most this much later, or never."""
CLOCKS_DIFFER_S: Final = 5.0
"""S: the clocks of any two invocations differ by at most this."""
INVOCATION_S: Final = 30.0
"""Lambda's time-out: an invocation that is not over by then never goes on."""
FROZEN_S: Final = 90.0
"""A machine may be frozen in the middle of a call and thaw at most this much later: past its time-out and its lease."""
DELIVERED_WITHIN_S: Final = 60.0
"""SSM starts a command within its delivery time-out, or never."""
SOURCES_ARE_WHOLE: Final = True
"""A kube-state-metrics that is up exposes every family that the queries read, but for those that allow-lists hide.

A family that shows nothing where there may be nothing (taints, waiting pods) shows that there is nothing; where a
cluster always has some (Nodes, conditions, requests), or the answer tells how much there is, the core must notice.
"""
RULES_ARE_USED: Final = True
"""Decisions rest on what the scheduler asks, as a server tells it: then some pods ask more than room, answers get lost
or spoilt, and on_plans.py holds. One switch for all of it."""
ATOMIC_STORE: Final = True
"""DynamoDB's conditional write is atomic and its consistent read sees every write that was answered."""

SWEEP_EVERY_S: Final = 120.0
"""EventBridge's rate."""
PROGRESS_SWEEPS: Final = 46
"""When faults stop, the fleet reaches its demand within this many sweeps.

What joined last may fail yet (4 sweeps), then nothing is launched for an hour at most (30, MAX_JOIN_WAIT_S), then 1, 1,
2 and 4 at a time, as many as have stayed: four times to join (240 s, and the sweep that sees it).
"""
REST_SWEEPS: Final = 120
"""When nothing runs any more, the fleet is at its floor within this many sweeps: workers go one after the other."""
NOTICED_WITHIN_S: Final = 90.0
"""How old the picture may be that a decision rests on: metrics (`max_age_s`), DescribeInstances (V), and the look."""
