"""What the service costs a month, by component and sweep rate: `python -m bench cost`.

Formulae over list prices and counted quantities; docs/cost.md holds its output, and tests/test_cost.py holds the two
together and the counts against the code. Nothing is measured in an account: the durations are assumptions, and options.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

PRICES_OF: Final = "us-east-1, looked up in November 2026"
MINUTES_A_MONTH: Final = 730 * 60
RATES_MIN: Final = (1, 2, 5, 15, 60)
MEMORY_GB: Final = 0.5
METRICS: Final = 12
ALARMS: Final = 11
THROTTLE_PER_S: Final = 2
METERED_KB: Final = 512
"""An HTTP API counts a request once for each 512 KB that it begins. Source: API Gateway pricing, "HTTP APIs"."""
FUNCTION_TAKES_MB: Final = 6
"""A larger body never reaches a function. Source: Lambda developer guide, "Lambda quotas", invocation payload."""
API_TAKES_MB: Final = 10
"""Source: API Gateway developer guide, "Quotas for HTTP APIs", payload size: no setting lowers it."""
LINE_OVERHEAD_BYTES: Final = 26
"""CloudWatch Logs adds this to each event. Source: CloudWatch Logs API reference, PutLogEvents."""
PLATFORM_BYTES: Final = 400
"""START, END and REPORT of one invocation."""


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """List prices in US dollars."""

    lambda_request: float = 0.20e-6
    lambda_gb_s: float = 0.0000133334
    """arm64."""
    api_request: float = 1.00e-6
    """HTTP API."""
    read_unit: float = 0.125e-6
    write_unit: float = 0.625e-6
    """On demand; one kilobyte."""
    log_gb: float = 0.50
    log_gb_month: float = 0.03
    metric: float = 0.30
    alarm: float = 0.10
    dashboard: float = 3.00
    key: float = 1.00
    nat_hour: float = 0.045
    nat_gb: float = 0.045
    ipv4_hour: float = 0.005


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """What every account has free each month, for all that runs in it."""

    lambda_requests: float = 1e6
    lambda_gb_s: float = 400_000
    log_gb: float = 5
    metrics: int = 10
    alarms: int = 10
    dashboards: int = 3


NOT_FREE: Final = Free(lambda_requests=0, lambda_gb_s=0, log_gb=0, metrics=0, alarms=0, dashboards=0)


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What happens in a month. The first two are assumptions until an account has shown better ones."""

    look_ms: int = 500
    """A warm look: three calls one after another or at once, a tenth of a second of our own time."""
    cold_ms: int = 2500
    """A cold start with its look. Lambda bills the start as well."""
    watchdog_ms: int = 20
    large_ms: int = 300
    """A body of 6 MB that is refused: Lambda hands it over whole before our size check."""
    cold_starts_a_day: int = 30
    alerts_a_day: int = 300
    """Webhooks that are looked at: the alert `low` repeats every five minutes of an idle night."""
    actions_a_day: int = 20
    """Launches and removals."""
    saves_an_action: int = 12
    """Writes of the state and the history, from the intent to the end."""
    state_kb: int = 3
    look_bytes: int = 2_600
    """A calm look's log line and its metrics; a look that acts writes some more (tests/test_cost.py measures both)."""
    watchdog_bytes: int = 600
    retention_days: int = 30
    nat_gb: float = 1.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One component at one sweep rate."""

    name: str
    usd: float


def components(rate_min: int, use: Use, prices: Prices, free: Free) -> list[Line]:
    """The month of one cluster, sweeping every `rate_min` minutes; in US dollars."""
    days = MINUTES_A_MONTH / 60 / 24
    alerts, watchdogs = use.alerts_a_day * days, float(MINUTES_A_MONTH)
    looks = MINUTES_A_MONTH / rate_min + alerts + 2 * use.actions_a_day * days
    invocations = looks + watchdogs
    seconds = (looks * use.look_ms + watchdogs * use.watchdog_ms + use.cold_starts_a_day * days * use.cold_ms) / 1000
    reads = looks + use.saves_an_action * use.actions_a_day * days
    # Powertools writes a webhook's record when it begins and when it is answered.
    writes = use.state_kb * use.saves_an_action * use.actions_a_day * days + 2 * alerts
    log_gb = (looks * (use.look_bytes + 2 * LINE_OVERHEAD_BYTES) + watchdogs * use.watchdog_bytes) / 1e9
    log_gb += invocations * (PLATFORM_BYTES + 3 * LINE_OVERHEAD_BYTES) / 1e9
    kept_gb = log_gb * use.retention_days / days
    return [
        Line(name="Lambda, requests", usd=_over(invocations, free.lambda_requests) * prices.lambda_request),
        Line(name="Lambda, GB-seconds", usd=_over(seconds * MEMORY_GB, free.lambda_gb_s) * prices.lambda_gb_s),
        Line(name="API Gateway", usd=(alerts + watchdogs) * prices.api_request),
        Line(name="DynamoDB", usd=reads * prices.read_unit + writes * prices.write_unit),
        Line(
            name="CloudWatch Logs",
            usd=_over(log_gb, free.log_gb) * prices.log_gb + _over(kept_gb, free.log_gb) * prices.log_gb_month,
        ),
        Line(name="CloudWatch metrics", usd=_over(METRICS, free.metrics) * prices.metric),
        Line(name="CloudWatch alarms", usd=_over(ALARMS, free.alarms) * prices.alarm),
        Line(name="KMS key of the alarms", usd=prices.key),
        Line(name="CloudWatch dashboard", usd=_over(1, free.dashboards) * prices.dashboard),
        Line(name="EventBridge, SSM, SQS, SNS", usd=0.0),
    ]


def total(rate_min: int, use: Use, prices: Prices, free: Free) -> float:
    """US dollars a month."""
    return sum(line.usd for line in components(rate_min, use, prices, free))


def networks(use: Use, prices: Prices) -> list[Line]:
    """What the functions' way to AWS costs a month, for each way."""
    hours = MINUTES_A_MONTH / 60
    nat = hours * (prices.nat_hour + prices.ipv4_hour) + use.nat_gb * prices.nat_gb
    return [
        Line(name="functions outside any VPC", usd=0.0),
        Line(name="IPv6 and an egress-only internet gateway (the cluster stack's)", usd=0.0),
        Line(name="a NAT gateway in one zone", usd=nat),
        Line(name="NAT gateways in two zones", usd=2 * nat - use.nat_gb * prices.nat_gb),
    ]


def flood(body_mb: float, use: Use, prices: Prices) -> float:
    """A month of forged webhooks at the throttle's rate, each refused: US dollars. The throttle is what bounds it."""
    requests = THROTTLE_PER_S * MINUTES_A_MONTH * 60.0
    metered = max(1, math.ceil(body_mb * 1024 / METERED_KB))
    api = requests * metered * prices.api_request
    if body_mb > FUNCTION_TAKES_MB:
        return api
    run_ms = use.large_ms if body_mb * 1024 > METERED_KB else use.watchdog_ms
    logged_gb = requests * (use.watchdog_bytes + PLATFORM_BYTES + 4 * LINE_OVERHEAD_BYTES) / 1e9
    function = prices.lambda_request + run_ms / 1000 * MEMORY_GB * prices.lambda_gb_s
    return api + requests * function + logged_gb * (prices.log_gb + prices.log_gb_month)


def tables(use: Use, prices: Prices) -> str:
    """The tables of docs/cost.md, in Markdown."""
    columns = [components(rate, use, prices, NOT_FREE) for rate in RATES_MIN]
    head = ["US dollars a month, sweeping every", *(f"{rate} min" for rate in RATES_MIN)]
    rows = [
        [column[number].name for column in columns[:1]] + [_usd(column[number].usd) for column in columns]
        for number in range(len(columns[0]))
    ]
    rows.append(["**list price**", *_bold(lambda rate: total(rate, use, prices, NOT_FREE))])
    rows.append(["**after the free tier**", *_bold(lambda rate: total(rate, use, prices, Free()))])
    ways = [[line.name, _usd(line.usd)] for line in networks(use, prices)]
    attack = [
        ["alerts' usual size", _usd(flood(0, use, prices))],
        [f"{FUNCTION_TAKES_MB} MB each, the most that Lambda takes", _usd(flood(FUNCTION_TAKES_MB, use, prices))],
        [f"{API_TAKES_MB} MB each, the most that the API takes", _usd(flood(API_TAKES_MB, use, prices))],
    ]
    return "\n".join(
        [
            *_table(head, rows),
            "",
            *_table(["the functions' way to AWS", "US dollars a month"], ways),
            "",
            *_table([f"refused webhooks, {THROTTLE_PER_S} a second all month", "US dollars"], attack),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; returns the exit code."""
    use = Use()
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=__doc__)
    for name in use.__struct_fields__:
        kind = type(getattr(use, name))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(use, name))
    options = vars(parser.parse_args(arguments))
    if any(value < 0 for value in options.values()):
        parser.error("an option is negative: give counts, sizes and durations of 0 or more")
    print(f"Prices of {PRICES_OF}.\n")
    print(tables(Use(**options), Prices()))
    return 0


def _over(amount: float, free: float) -> float:
    return max(0.0, amount - free)


def _usd(amount: float) -> str:
    return f"{amount:.2f}"


def _bold(of: Callable[[int], float]) -> list[str]:
    return [f"**{_usd(of(rate))}**" for rate in RATES_MIN]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    sys.exit(main())
