"""docs/cost.md says what the formulae give, and the formulae count what the service has."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from autoscaler.model import Trigger
from autoscaler.policy import Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.telemetry import Telemetry
from autoscaler.webhook import BODY_LIMIT_BYTES
from bench import cost, measured
from bench.cost import NOT_FREE, RATES_MIN, Free, Prices, Use, components, measured_line, others, tables, total
from tests.handlers.support import FakeContext
from tests.simulator.worlds import deployment

ROOT = Path(__file__).resolve().parent.parent


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def logged(trigger: str, write: Callable[[Telemetry], None]) -> int:
    """Bytes that one invocation writes."""
    stream = io.StringIO()
    telemetry = Telemetry(cluster_id="a-cluster-with-a-name", stream=stream)
    telemetry.begin(Trigger(kind=trigger), FakeContext())
    write(telemetry)
    return len(stream.getvalue().encode())


def test_the_document_holds_what_the_command_prints() -> None:
    assert tables(Use(), Prices()) in read("docs/cost.md"), "run `python -m bench cost` and put its tables in"


def test_the_default_is_two_dollars_at_most_and_the_page_says_what_is_watched() -> None:
    assert total(2, Use(), Prices(), NOT_FREE) <= 2.00
    page = read("docs/cost.md")
    assert f"| {cost.METRICS} x $0.30, {cost.ALARMS} x $0.10: " in page
    assert f"${cost.ALARMS * Prices().alarm:.2f} a month" in read("serverless.yml")
    assert re.search(r"^    alarmTopicKey: false +# .* \$1 a month$", read("serverless.yml"), re.MULTILINE)
    assert re.search(r"^    dashboard: false +# \$3 a month", read("serverless.yml"), re.MULTILINE)
    assert read("cloudformation/dashboard.js").count("ask(\n") + 2 == cost.DASHBOARD_QUERIES, "and two tables"


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main([]) == 0
    told = capsys.readouterr().out
    assert tables(Use(), Prices()) in told
    assert told.endswith(measured_line(measured.FILE) + "\n")
    assert cost.main(["--look-ms", "5000"]) == 0
    assert tables(Use(look_ms=5000), Prices()) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cost.main(["--look-ms", "-1"])


def test_what_was_measured_is_counted_in_the_place_of_what_is_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CPU time of a whole processor, by hand: 512 MB have 512 / 1769 of one, and the waits stay."""
    path = tmp_path / "bench" / "results" / "invocation.json"
    path.parent.mkdir(parents=True)
    assert measured_line(path).startswith("Not measured: there is no bench/results/invocation.json")
    path.write_text('{"warm_look_ms": 20, "cold_ms": 400, "calls": {"dynamodb": 2, "ec2": 1}, "python": "3.13"}')
    use = Use(look_ms=120, cold_ms=1502, reads_a_look=2)  # 20 * 1769 / 512 + 50; and 400 * 1769 / 512 more
    month = total(2, use, Prices(), NOT_FREE)
    assert month < total(2, Use(), Prices(), NOT_FREE)
    line = measured_line(path)
    assert "a look takes 120 ms at 0.5 GB and a cold one 1502 ms, with 2 read(s) of DynamoDB." in line
    assert f"that is {month:.2f} US dollars a month at list price, of which the work is {month - 1.60:.2f}." in line
    monkeypatch.setattr(measured, "FILE", path)
    for wrong in ('{"warm_look_ms": "fast"}', "{", '{"warm_look_ms": -1, "cold_ms": 2, "calls": {}}'):
        path.write_text(wrong)
        assert cost.main([]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("bench/results/invocation.json is not understood: ")


def test_a_pod_costs_its_larger_share_of_a_node() -> None:
    """t3.small at $0.0208 an hour: 600 MiB of 2 GiB; two whole CPUs of two."""
    autoscaler, karpenter, small, _ = others(Use(), Prices())
    assert small.usd == pytest.approx(730 * 0.0208)
    assert autoscaler.usd == pytest.approx(730 * 0.0208 * 600 / 2048)
    assert karpenter.usd == pytest.approx(730 * 0.0208)


def test_it_counts_the_metrics_the_alarms_and_the_memory_that_there_are() -> None:
    """An alarm is billed by the metrics in it: those of AWS have a name, ours are a row that others may refer to."""
    alarms = read("cloudformation/alarms.yml")
    assert alarms.count("Type: AWS::CloudWatch::Alarm") == cost.ALARMS
    of_aws = re.findall(r"^      MetricName: ", alarms, re.MULTILINE)
    ours = re.findall(r"^        - (?:Id: |&highest$|\*highest$)", alarms, re.MULTILINE)
    assert len(of_aws) + len(ours) == cost.ALARMS
    assert read("autoscaler/telemetry.py").count("add_metric(") == cost.METRICS
    found = re.search(r"^  memorySize: (\d+)", read("serverless.yml"), re.MULTILINE)
    assert found is not None
    assert int(found[1]) / 1024 == cost.MEMORY_GB
    assert f"ThrottlingRateLimit: {cost.THROTTLE_PER_S}\n" in read("cloudformation/functions.yml")


@pytest.mark.parametrize("workers", [2, 20])
def test_a_calm_look_logs_as_much_as_is_counted(workers: int) -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=2, max=40)), workers=workers)
    cluster.apply(deployment(replicas=4 * workers, cpu=400, burn=0.25))
    cluster.run(600)
    document = cluster.sweep()
    assert (document["action"], document["operations"]) == ("none", [])
    written = logged("sweep", lambda telemetry: telemetry.decision(document))
    assert 0.75 * Use().look_bytes <= written <= 1.1 * Use().look_bytes


def test_a_watchdog_logs_no_more_than_is_counted() -> None:
    written = logged("alert", lambda telemetry: telemetry.watchdog())
    assert 0.8 * Use().watchdog_bytes <= written <= 1.1 * Use().watchdog_bytes


def test_the_state_of_a_working_cluster_is_no_larger_than_is_counted() -> None:
    cluster = SimCluster(Policy(version=1), workers=2)
    cluster.apply(deployment(replicas=12, cpu=900))
    cluster.run(15)
    cluster.sweep_for(600, every_s=60)
    assert 0 < cluster.item.largest_bytes <= Use().state_kb * 1024


@pytest.mark.parametrize("rate_min", RATES_MIN)
def test_the_free_tier_only_takes_away(rate_min: int) -> None:
    listed = components(rate_min, Use(), Prices(), NOT_FREE)
    reduced = components(rate_min, Use(), Prices(), Free())
    for one, other in zip(listed, reduced, strict=True):
        assert 0 <= other.usd <= one.usd, one.name
    assert total(rate_min, Use(), Prices(), NOT_FREE) == pytest.approx(sum(line.usd for line in listed))


def test_a_month_of_sweeps_by_hand() -> None:
    """Every 2 minutes: 21,900 sweeps; nothing else happens."""
    quiet = Use(alerts_a_day=0, actions_a_day=0, cold_starts_a_day=0, watchdog_ms=0)
    by_name = {line.name: line.usd for line in components(2, quiet, Prices(), NOT_FREE)}
    assert by_name["Lambda, GB-seconds"] == pytest.approx(21_900 * 0.5 * 0.5 * 0.0000133334)
    assert by_name["Lambda, requests"] == pytest.approx((21_900 + 43_800) * 0.20e-6)
    assert by_name["DynamoDB"] == pytest.approx(21_900 * 0.125e-6)
    assert by_name["API Gateway"] == pytest.approx(43_800 * 1e-6)


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def test_the_throttle_leaves_room_for_two_alertmanagers_with_every_alert_firing() -> None:
    """Alertmanager sends a group, here an alert's name, at most once in the group_interval of its route."""
    rules = yaml.safe_load(read("monitoring/alertmanager.yml"))["route"]["routes"][0]["routes"]
    labels = {
        rule["alert"]: rule["labels"]["scale"]
        for path in (ROOT / "monitoring" / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert len(labels) >= 6

    def interval_s(name: str) -> float:
        route = next(
            row for row in rules if {f'alertname = "{name}"', f'scale = "{labels[name]}"'} & set(row["matchers"])
        )
        return seconds(route["group_interval"])

    sent_per_s = 2 * sum(1 / interval_s(name) for name in labels)
    assert 2 * sent_per_s <= cost.THROTTLE_PER_S
    found = re.search(r"ThrottlingBurstLimit: (\d+)", read("cloudformation/functions.yml"))
    assert found is not None
    assert int(found[1]) >= 2 * len(labels) + cost.THROTTLE_PER_S


@pytest.mark.parametrize(
    ("body_mb", "units", "function_s"),
    [(0, 1, 0.02), (0.5, 1, 0.02), (0.51, 2, 0.3), (6, 12, 0.3), (6.1, 13, None), (10, 20, None)],
)
def test_a_flood_is_metered_by_the_half_megabyte(body_mb: float, units: int, function_s: float | None) -> None:
    requests = cost.THROTTLE_PER_S * 43_800 * 60
    prices = Prices(log_gb=0, log_gb_month=0)
    function = 0 if function_s is None else 0.20e-6 + function_s * 0.5 * 0.0000133334
    assert cost.flood(body_mb, Use(), prices) == pytest.approx(requests * (units * 1e-6 + function))


def test_our_own_webhooks_are_metered_once() -> None:
    assert BODY_LIMIT_BYTES <= cost.METERED_KB * 1024
