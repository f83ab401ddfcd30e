"""Evaluates the rules on given series with `promtool test rules` and compares whole vectors, empty ones too."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from autoscaler.deploy.rules import Settings, render, write
from autoscaler.observe.series import PREFIX
from autoscaler.policy import Policy
from tests.monitoring.programs import ROOT, run

COMMITTED = ROOT / "monitoring"


class Vector(NamedTuple):
    """What an expression gives at a moment: values by labels, written `{node="a"}`."""

    at_s: int
    promql: str
    values: Mapping[str, float]
    name: str = ""


class Firing(NamedTuple):
    """Whether an alert fires at a moment: its labels and the annotations that are compared, one row for each."""

    at_s: int
    alert: str
    rows: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]


def recorded(at_s: int, family: str, values: Mapping[str, float], *, where: str = "") -> Vector:
    """The whole family, or what `where` (`{part="app"}`) selects of it."""
    name = f"{PREFIX}{family}"
    return Vector(at_s, f"{name}{where}", values, name)


def rounded(at_s: int, family: str, values: Mapping[str, float]) -> Vector:
    """As `recorded`, to four digits: rates are not exact."""
    return Vector(at_s, f"round({PREFIX}{family}, 0.0001)", values)


def assert_rules(
    folder: Path,
    series: Mapping[str, str],
    *expected: Vector | Firing,
    interval_s: int = 2,
    policy: Policy | None = None,
    annotations: Collection[str] | None = None,
) -> None:
    """Raise with promtool's own words where a vector or an alert differs.

    `series` are values in promtool's notation, a sample each `interval_s`; the groups are evaluated as often.
    Without a policy the committed rules are used. promtool compares every annotation of an alert: `annotations` names
    those that the alerts keep for this case, by default all.
    """
    rules = COMMITTED / "rules"
    if policy is not None:
        write(render(policy, Settings()), folder / "rendered")
        rules = folder / "rendered" / "rules"
    if annotations is not None:
        rules = _with_annotations(annotations, rules, folder / "cut")
    vectors = [item for item in expected if isinstance(item, Vector)]
    alerts = [item for item in expected if isinstance(item, Firing)]
    assert vectors or alerts
    document = {
        "rule_files": [str(rules / "cluster.yml"), str(rules / "utilisation.yml")],
        "evaluation_interval": f"{interval_s}s",
        "group_eval_order": ["k3s-autoscaler-cluster", "k3s-autoscaler-utilisation"],
        "tests": [
            {
                "interval": f"{interval_s}s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": vector.promql,
                        "eval_time": f"{vector.at_s}s",
                        "exp_samples": [
                            {"labels": vector.name + labels, "value": value} for labels, value in vector.values.items()
                        ],
                    }
                    for vector in vectors
                ],
                "alert_rule_test": [
                    {
                        "eval_time": f"{firing.at_s}s",
                        "alertname": firing.alert,
                        "exp_alerts": [
                            {"exp_labels": dict(labels), "exp_annotations": dict(annotations)}
                            for labels, annotations in firing.rows
                        ],
                    }
                    for firing in alerts
                ],
            }
        ],
    }
    file = folder / "case.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000), encoding="utf-8")
    done = run("promtool", "test", "rules", file)
    told = done.stdout + done.stderr
    assert done.returncode == 0, _readable(told)
    assert re.search(r"^\s*SUCCESS$", told, re.MULTILINE), told


def _with_annotations(kept: Collection[str], rules: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in rules.glob("*.yml"):
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in document["groups"]:
            for rule in group["rules"]:
                for name in rule.get("annotations", {}).keys() - set(kept):
                    del rule["annotations"][name]
        (folder / file.name).write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def _readable(told: str) -> str:
    """promtool prints vectors on one line: one element a line can be compared by eye."""
    return re.sub(r"\}? (-?[0-9.eE+-]+), \{?", r"} \1,\n        ", told)


def every(count: int, value: float | str) -> str:
    """`count` samples of one value."""
    return f"{value}+0x{count - 1}"
