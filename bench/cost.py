"""What the service costs a month, by component and sweep rate: `python -m bench cost`.

Formulae over list prices and counted quantities; docs/cost.md holds its output, and tests/test_cost.py holds the two
together and the counts against the code. Nothing is measured in an account: the durations are assumptions, and options.
Where a bench has measured an invocation, a last line says the month with that (bench/measured.py).
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import measured

PRICES_OF: Final = "us-east-1, looked up in November 2026"
MINUTES_A_MONTH: Final = 730 * 60
RATES_MIN: Final = (1, 2, 5, 15, 60)
MEMORY_GB: Final = 0.5
METRICS: Final = 1
ALARMS: Final = 13
"""Each has one metric, which is what is billed: "alarm metrics". Source: CloudWatch pricing, "Alarms"."""
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
DASHBOARD_QUERIES: Final = 8
DASHBOARD_OPENINGS_A_DAY: Final = 10


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
    query_gb: float = 0.005
    """Logs Insights, each GB that is scanned."""
    nat_hour: float = 0.045
    nat_gb: float = 0.045
    ipv4_hour: float = 0.005
    t3_small_hour: float = 0.0208


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """What every account has free each month, for all that runs in it."""

    lambda_requests: float = 1e6
    lambda_gb_s: float = 400_000
    log_gb: float = 5
    metrics: int = 10
    alarms: int = 10


NOT_FREE: Final = Free(lambda_requests=0, lambda_gb_s=0, log_gb=0, metrics=0, alarms=0)


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
    reads_a_look: int = 1
    saves_an_action: int = 12
    """Writes of the state and the history, from the intent to the end."""
    state_kb: int = 3
    look_bytes: int = 2_000
    """A calm look's log line and its metric; a look that acts writes some more (tests/test_cost.py measures both)."""
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
    looks = looks_a_month(rate_min, use)
    invocations = looks + watchdogs
    seconds = (looks * use.look_ms + watchdogs * use.watchdog_ms + use.cold_starts_a_day * days * use.cold_ms) / 1000
    reads = looks * use.reads_a_look + use.saves_an_action * use.actions_a_day * days
    # Powertools writes a webhook's record when it begins and when it is answered.
    writes = use.state_kb * use.saves_an_action * use.actions_a_day * days + 2 * alerts
    log_gb = logged_gb(rate_min, use)
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
        Line(name="EventBridge, SSM, SQS, SNS", usd=0.0),
    ]


def looks_a_month(rate_min: float, use: Use) -> float:
    """Sweeps, alerts and, for each action, its beginning and its end."""
    days = MINUTES_A_MONTH / 60 / 24
    return MINUTES_A_MONTH / rate_min + (use.alerts_a_day + 2 * use.actions_a_day) * days


def logged_gb(rate_min: float, use: Use) -> float:
    """What all functions write to their logs in a month."""
    looks, watchdogs = looks_a_month(rate_min, use), float(MINUTES_A_MONTH)
    written = looks * (use.look_bytes + 2 * LINE_OVERHEAD_BYTES) + watchdogs * use.watchdog_bytes
    return (written + (looks + watchdogs) * (PLATFORM_BYTES + 3 * LINE_OVERHEAD_BYTES)) / 1e9


def total(rate_min: int, use: Use, prices: Prices, free: Free) -> float:
    """US dollars a month."""
    return sum(line.usd for line in components(rate_min, use, prices, free))


def options(rate_min: float, use: Use, prices: Prices) -> list[Line]:
    """What a parameter of the deployment adds a month, or takes away."""
    days = MINUTES_A_MONTH / 60 / 24
    scanned_gb = DASHBOARD_OPENINGS_A_DAY * days * DASHBOARD_QUERIES * logged_gb(rate_min, use) / days
    return [
        Line(name="`alarmTopicKey=true`: the alarms' topic encrypted with a key of its own", usd=prices.key),
        Line(name="`dashboard=true`; an account's first three are free", usd=prices.dashboard),
        Line(
            name=f"its {DASHBOARD_QUERIES} queries, the last day looked at {DASHBOARD_OPENINGS_A_DAY} times a day",
            usd=scanned_gb * prices.query_gb,
        ),
        Line(name="`alarms=false`", usd=-ALARMS * prices.alarm),
    ]


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """What an autoscaler inside the cluster asks for, by its own published example."""

    name: str
    replicas: int
    cpu: float
    memory_gib: float


PODS: Final = (
    Pod(name="cluster-autoscaler, 1 replica of 0.1 CPU and 600 MiB", replicas=1, cpu=0.1, memory_gib=600 / 1024),
    Pod(name="Karpenter, 2 replicas of 1 CPU and 1 GiB", replicas=2, cpu=1.0, memory_gib=1.0),
)
"""Requests. Sources, read on 26 November 2026: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws/examples/
cluster-autoscaler-autodiscover.yaml (commit 046b7e8); aws/karpenter-provider-aws, the guide's
step08-apply-helm-chart.sh (commit 6b230b1), and `replicas` of charts/karpenter/values.yaml (commit 0003697)."""
SMALL_CPU: Final = 2
SMALL_GIB: Final = 2
"""t3.small. Source: EC2 user guide, general purpose instances."""


def others(use: Use, prices: Prices) -> list[Line]:
    """What other ways to the same end cost a month: a pod costs the share of a node that it keeps from others."""
    small = MINUTES_A_MONTH / 60 * prices.t3_small_hour
    shares = [(pod, pod.replicas * max(pod.cpu / SMALL_CPU, pod.memory_gib / SMALL_GIB)) for pod in PODS]
    return [
        *(Line(name=f"{pod.name}: {share:.2f} of a t3.small", usd=share * small) for pod, share in shares),
        Line(name="one idle t3.small", usd=small),
        Line(name="a NAT gateway in one zone", usd=networks(use, prices)[2].usd),
    ]


def measured_line(path: Path) -> str:
    """The month with what was measured, or why there is none. Raises ValueError for a file that is not understood."""
    found = measured.read(path)
    if found is None:
        return f"Not measured: there is no {measured.name_of(path)}, so the durations are the assumed ones."
    look_ms, cold_ms = measured.billed_ms(found, memory_mb=MEMORY_GB * 1024)
    use, prices = Use(look_ms=look_ms, cold_ms=cold_ms, reads_a_look=found.calls.get("dynamodb", 0)), Prices()
    month = total(2, use, prices, NOT_FREE)
    work = month - METRICS * prices.metric - ALARMS * prices.alarm
    return (
        f"With the CPU time of {measured.name_of(path)} ({found.warm_look_ms:g} ms a calm look, {found.cold_ms:g} ms a "
        f"cold start, of a whole processor) and {measured.WAIT_MS} ms of waiting for calls, a look takes {look_ms} ms "
        f"at {MEMORY_GB:g} GB and a cold one {cold_ms} ms, with {use.reads_a_look} read(s) of DynamoDB. Sweeping every "
        f"2 minutes that is {_usd(month)} US dollars a month at list price, of which the work is {_usd(work)}."
    )


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
    ways = _rows(networks(use, prices))
    attack = [
        ["alerts' usual size", _usd(flood(0, use, prices))],
        [f"{FUNCTION_TAKES_MB} MB each, the most that Lambda takes", _usd(flood(FUNCTION_TAKES_MB, use, prices))],
        [f"{API_TAKES_MB} MB each, the most that the API takes", _usd(flood(API_TAKES_MB, use, prices))],
    ]
    return "\n".join(
        [
            *_table(head, rows),
            "",
            *_table(["options, sweeping every 2 min", "US dollars a month"], _rows(options(2, use, prices))),
            "",
            *_table(["the functions' way to AWS", "US dollars a month"], ways),
            "",
            *_table(["what else one may pay for", "US dollars a month"], _rows(others(use, prices))),
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
    given = vars(parser.parse_args(arguments))
    if any(value < 0 for value in given.values()):
        parser.error("an option is negative: give counts, sizes and durations of 0 or more")
    try:
        last = measured_line(measured.FILE)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Prices of {PRICES_OF}.\n\n{tables(Use(**given), Prices())}\n\n{last}")
    return 0


def _rows(lines: Sequence[Line]) -> list[list[str]]:
    return [[line.name, _usd(line.usd)] for line in lines]


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
