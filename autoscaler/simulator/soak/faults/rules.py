"""What becomes of a server's answers to the verb `rules`: none comes, or less than all, or something else."""

from typing import Final

from autoscaler.simulator.rules_faults import RulesFault
from autoscaler.simulator.soak.faults.stage import Action, Episode, Kinds, Stage


def _begin(fault: RulesFault) -> Action:
    def begin(stage: Stage, _episode: Episode) -> None:
        stage.cluster.ssm.rules_fault = fault

    return begin


def _end(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ssm.rules_fault = None


KINDS: Final[Kinds] = {f"rules: {fault}": (_begin(fault), _end) for fault in RulesFault}
