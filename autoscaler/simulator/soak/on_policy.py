"""Invariants of live changes: the last good one holds, an older one never again, and a decision says which it was."""

from collections.abc import Mapping
from typing import Any, Final

from autoscaler.policy import policy_hash
from autoscaler.simulator.soak.assumptions import FROZEN_S, INVOCATION_S
from autoscaler.simulator.soak.watch import Saved, Watch

REFUSAL: Final = "of the policy's parameter is refused"
"""In the words that people are told."""


class PolicyRules:
    """Rules that remember which write was seen last. One object a run."""

    def __init__(self) -> None:
        self._order = 0
        """Of the write that the state has seen last, valid or not; of a deletion as well."""

    def only_what_is_valid_holds(self, watch: Watch, saved: Saved) -> str | None:
        """What the state says that holds was written like that and is valid; what it refuses is not."""
        old, new = saved.old.policy_override, saved.new.policy_override
        if old == new or new is None:
            return None
        if watch.parameter.policy_of(new) is None:
            return f"version {new.version} holds with {new.text!r}, and that is no valid policy"
        if new.invalid_version and not watch.parameter.is_refused(new.invalid_version, new.changed_at_s):
            return f"version {new.invalid_version} is refused ({new.invalid}), and it is valid"
        if new.invalid_version and old is not None and (new.version, new.text) != (old.version, old.text):
            return (
                f"version {new.invalid_version} is refused, and version {new.version} holds in place of {old.version}"
            )
        return None

    def no_older_policy_holds_again(self, watch: Watch, saved: Saved) -> str | None:
        """Events come twice, late and in any order: what the state has seen is followed by later writes only."""
        old, new = saved.old.policy_override, saved.new.policy_override
        if old == new:
            return None
        if new is not None:
            order = watch.parameter.order_of(new.seen_version, new.changed_at_s)
            what = f"version {new.seen_version}"
        else:
            order, what = watch.parameter.deleted_after(self._order), "the deployed policy alone"
        if order is None or order <= self._order:
            return f"{what} is taken up after a later write"
        self._order = order
        return None


def a_decision_names_the_policy_that_held(watch: Watch, document: Mapping[str, Any]) -> str | None:
    """Its version and its hash are those of one policy that held while it was made."""
    told = (document["policy_version"], document["policy_hash"])
    held = watch.held_since(watch.cluster.now_s - INVOCATION_S - FROZEN_S)
    if told not in {(one.version, policy_hash(one.policy)) for one in held}:
        return f"it says version {told[0]}, and {[one.version for one in held]} held"
    return None


def a_refused_policy_is_told_by_who_brought_it(watch: Watch, document: Mapping[str, Any]) -> str | None:
    """Whoever brings what is not valid tells it, and looks that find it so in the state do not tell it again."""
    offered, override = watch.ending.offered, watch.state.policy_override
    documents = [document, *document.get("earlier", [])]
    told = any(REFUSAL in failure for one in documents for failure in one["failures"])
    if told and offered is None:
        return "a look that brought no change tells of one that is refused"
    brought = offered is not None and offered.text is not None and override is not None
    if brought and offered is not None and override is not None:
        stands = (override.invalid_version, override.changed_at_s) == (offered.version, offered.changed_at_s)
        if stands and not told:
            return f"version {offered.version} is refused, and who brought it tells nobody"
    return None
