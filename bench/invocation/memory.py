"""What another memory size would cost and bring, computed from measured CPU seconds.

Lambda gives CPU in proportion to memory, one whole processor at 1,769 MB (Lambda developer guide, "Configure Lambda
function memory"); our code runs on one at a time. So a look takes its waits, which no memory shortens, and its CPU time
over the share. Waits are assumed (WAIT_MS), everything else is measured or a list price.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.cost import MINUTES_A_MONTH, Prices
from bench.measured import WAIT_MS, WHOLE_CPU_MB

SIZES_MB: Final = (256, 512, 1024, 1769)
PROVISIONED_GB_S: Final = 0.0000033334
"""Provisioned concurrency on arm64, us-east-1, the hours that it stands ready (AWS Lambda pricing)."""


class Size(NamedTuple):
    """One memory size."""

    mb: int
    look_s: float
    cold_s: float
    month_usd: float
    """Sweeps every two minutes, GB-seconds alone."""


def curve(look_cpu_s: float, cold_cpu_s: float) -> Iterator[Size]:
    """Seconds and dollars by memory; both CPU times as measured on a whole processor."""
    for mb in SIZES_MB:
        share = min(1.0, mb / WHOLE_CPU_MB)
        look_s = WAIT_MS / 1000 + look_cpu_s / share
        month = MINUTES_A_MONTH / 2 * look_s * mb / 1024 * Prices().lambda_gb_s
        yield Size(mb, look_s, cold_cpu_s / share + look_s, month)


def provisioned_usd(mb: int) -> float:
    """One environment of one function that stands ready all month."""
    return MINUTES_A_MONTH * 60 * mb / 1024 * PROVISIONED_GB_S
