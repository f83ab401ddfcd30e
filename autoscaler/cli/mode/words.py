"""The mode in words."""

from autoscaler.cli.duration import say_duration
from autoscaler.cli.times import moment
from autoscaler.model import ModeSetting


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
