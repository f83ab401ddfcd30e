"""Who may act: the operator's word, else the policy's."""

import msgspec

from autoscaler.model import Mode, ModeSetting, State
from autoscaler.policy import Policy


def effective_mode(state: State, policy: Policy, now_s: int) -> Mode:
    """The operator's word, else the policy's."""
    return operators_mode(state.mode, now_s) or policy.mode


def operators_mode(setting: ModeSetting | None, now_s: int) -> Mode | None:
    """The operator's word while it holds, then the lasting one that it interrupted; None where there is none."""
    if setting is None:
        return None
    if setting.until_s is None or now_s < setting.until_s:
        return setting.mode
    return setting.then


def set_mode(state: State, setting: ModeSetting | None) -> State:
    """Put the operator's word in; None takes it back. One with an end keeps in mind the lasting one before it.

    Else a cluster that shall only observe would act when a `pause --for` has ended.
    """
    before = state.mode
    if setting is not None and setting.until_s is not None and before is not None:
        lasting = before.mode if before.until_s is None else before.then
        setting = msgspec.structs.replace(setting, then=lasting)
    return msgspec.structs.replace(state, mode=setting)


def begun(state: State, version: int, start_mode: Mode | None, now_s: int) -> State:
    """The state that a look begins with: a cluster that has none yet is in `start_mode`; None leaves it to the policy.

    Once it is stored, the mode is the operator's to change.
    """
    if start_mode is None:
        return state
    if version:
        return begin_after(state, start_mode)
    return set_mode(state, ModeSetting(mode=start_mode, set_at_s=now_s, by="the first deployment"))


def begin_after(state: State, start_mode: Mode) -> State:
    """Let a cluster that was set to a mode for a while before its first look begin in `start_mode` after that."""
    word = state.mode
    if word is None or word.until_s is None or word.then is not None or state != State(mode=word):
        return state
    return msgspec.structs.replace(state, mode=msgspec.structs.replace(word, then=start_mode))
