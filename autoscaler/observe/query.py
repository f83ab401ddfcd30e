"""The one PromQL expression that returns the whole snapshot.

`or` compares label sets without `__name__`, so every operand but the plain selector carries a distinct `window` label.
The rules record plain series; the policy's windows are applied here, so a changed window needs no new rule.
"""

from typing import Final

from autoscaler.observe.series import CLUSTER_FAMILIES, META_FAMILIES, PREFIX, UTILISATION_FAMILIES
from autoscaler.policy import Policy

WINDOW_LABEL: Final = "window"
GROW_MIN: Final = "grow_min"
GROW_COUNT: Final = "grow_count"
SHRINK_MAX: Final = "shrink_max"
SHRINK_COUNT: Final = "shrink_count"
READY_MAX: Final = "ready_max"
READY_COUNT: Final = "ready_count"


def snapshot_query(policy: Policy) -> str:
    """Return the expression for this policy's windows."""
    families = "|".join((*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, *META_FAMILIES))
    low = f'{PREFIX}workers_utilisation{{bound="low"}}'
    high = f'{PREFIX}workers_utilisation{{bound="high"}}'
    ready = f"{PREFIX}node_ready"
    grow_s, shrink_s, repair_s = policy.scale_up.window_s, policy.scale_down.window_s, policy.repair.not_ready_s
    operands = (
        f'{{__name__=~"{PREFIX}({families})"}}',
        _window(f"min_over_time({low}[{grow_s}s])", GROW_MIN),
        _window(f"count_over_time({low}[{grow_s}s])", GROW_COUNT),
        _window(f"max_over_time({high}[{shrink_s}s])", SHRINK_MAX),
        _window(f"count_over_time({high}[{shrink_s}s])", SHRINK_COUNT),
        _window(f"max_over_time({ready}[{repair_s}s])", READY_MAX),
        _window(f"count_over_time({ready}[{repair_s}s])", READY_COUNT),
    )
    return " or ".join(operands)


def _window(expression: str, name: str) -> str:
    return f'label_replace({expression}, "{WINDOW_LABEL}", "{name}", "", "")'
