"""How large the state may be: one item of 64 KB. What is remembered gives way to what is under way."""

from typing import Final

import msgspec

from autoscaler.model import KeptForecast, LaunchOperation, State

STATE_LIMIT_BYTES: Final = 64 * 1024
LAUNCH_ROOM_BYTES: Final = 36 * 1024
"""No launch is opened beyond this: removals, which cannot wait, and what is remembered have the rest."""
ID_BYTES: Final = 64
"""What one worker adds to its launch once it has an id: `instance_ids`, and `absent_since_s` for a while."""

NO_ROOM: Final = "the state has no room for it"
_encoder: Final = msgspec.json.Encoder(order="deterministic")
_GIVING_WAY: Final = ("moved", "held_workers", "joined", "backoffs", "owners", "notices")
"""The harmless first: asked once more too early, one too many in a pool, launched once more in vain, a notice that
was dealt with."""


def encoded(state: State) -> bytes:
    """The state as it is stored, the same bytes for the same state."""
    return _encoder.encode(state)


def workers_that_fit(state: State, operation: LaunchOperation) -> int:
    """How many workers one more launch may ask for, 0 where there is no room for it; at most what it asks for."""
    under_way = sum(_grown(launch) for launch in state.launches) + sum(len(_encoder.encode(r)) for r in state.removals)
    left = LAUNCH_ROOM_BYTES - under_way - len(_encoder.encode(operation))
    return max(0, min(operation.request.count, left // ID_BYTES))


def _grown(launch: LaunchOperation) -> int:
    return len(_encoder.encode(launch)) + launch.unidentified * ID_BYTES


def fitted(state: State) -> State:
    """The state within its limit, if forgetting helps: the older half of one memory after another."""
    if len(encoded(state)) > STATE_LIMIT_BYTES:
        state = _in_few_words(state)
    for memory in _GIVING_WAY:
        while len(encoded(state)) > STATE_LIMIT_BYTES:
            shorter = _forgetting(state, memory)
            if shorter == state:
                break
            state = shorter
    return state


def _in_few_words(state: State) -> State:
    """Without the forecast, which is made again at its time and not before, and without why signals failed."""
    aside = tuple(msgspec.structs.replace(one, problem=one.failure.value) for one in state.signals_aside)
    forecast = state.forecast and KeptForecast(made_at_s=state.forecast.made_at_s, problem=NO_ROOM)
    return msgspec.structs.replace(state, forecast=forecast, signals_aside=aside)


def _forgetting(state: State, memory: str) -> State:
    """The older half goes; of notices only what is handled may."""
    rows = getattr(state, memory)
    old = [row for row in rows if memory != "notices" or row.handled]
    gone = old[: (len(old) + 1) // 2]
    return msgspec.structs.replace(state, **{memory: tuple(row for row in rows if row not in gone)})
