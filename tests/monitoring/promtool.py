"""Evaluates rules and queries on given series with `promtool test rules` and compares whole vectors, empty ones too.

A module's cases run in one process, which costs as much as one of them; each is told as a test of its own.
"""

import json
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from autoscaler.deploy.rules import Settings, render, write
from autoscaler.observe.query import sight_query
from autoscaler.observe.series import FAMILY, PREFIX
from autoscaler.policy import Policy
from tests.monitoring.programs import ROOT, program

COMMITTED = ROOT / "monitoring"
SIGHT = sight_query(Policy(version=1), with_owners=True)


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


class Case(NamedTuple):
    """Series in promtool's notation, a sample each `interval_s`; the rules are evaluated as often."""

    name: str
    series: Mapping[str, str]
    expected: Sequence[Vector | Firing]
    interval_s: int = 2
    policy: Policy | None = None
    """Without one the committed rules are used."""
    annotations: Collection[str] | None = None
    """promtool compares every annotation of an alert: those that the alerts keep for this case, by default all."""
    recording: bool = True
    """Without it no rule is evaluated: for what is asked of raw series alone."""


def recorded(at_s: int, family: str, values: Mapping[str, float], *, where: str = "") -> Vector:
    """The whole recorded series, or what `where` (`{bound="low"}`) selects of it."""
    name = f"{PREFIX}{family}"
    return Vector(at_s, f"{name}{where}", values, name)


def rounded(at_s: int, family: str, values: Mapping[str, float]) -> Vector:
    """As `recorded`, to four digits: rates are not exact."""
    return Vector(at_s, f"round({PREFIX}{family}, 0.0001)", values)


def asked(at_s: int, family: str, rows: Mapping[str, float], *, query: str = SIGHT, **where: str) -> Vector:
    """The rows of a family in the answer of a query, or those that `where` selects; values to four digits.

    Only the operands that give the family are evaluated: the others carry other families.
    """
    mine = f'"{FAMILY}", "{family}", "", "")'
    promql = "\nor\n".join(operand for operand in query.split("\nor\n") if operand.endswith(mine))
    assert promql, f"no operand gives {family}"
    if where:
        mark = "vector(1)"
        for label, value in where.items():
            mark = f'label_replace({mark}, "{label}", "{value}", "", "")'
        promql = f"({promql}) and on ({', '.join(where)}) {mark}"
    labelled = {f'{{{FAMILY}="{family}"{key.strip("{}") and ","}{key[1:]}': value for key, value in rows.items()}
    return Vector(at_s, f"round({promql}, 0.0001)", labelled)


class Cases:
    """Cases of one module: `@CASES.each` tells them as tests, `CASES.check(name)` raises with promtool's words."""

    def __init__(self, *cases: Case) -> None:
        self._cases = {case.name: case for case in cases}
        assert len(self._cases) == len(cases), "two cases have the same name"

    @property
    def each(self) -> pytest.MarkDecorator:
        return pytest.mark.parametrize("case", list(self._cases))

    def check(self, name: str) -> None:
        told = [*self._told[""], *self._told[name]]
        assert not told, "\n".join(told)

    @cached_property
    def _told(self) -> Mapping[str, list[str]]:
        """What promtool says against each case, and, under no name, against all of them."""
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, case in enumerate(self._cases.values()):
                rules = _rules(case, Path(folder) / f"rules-{number}") if case.recording else []
                file = Path(folder) / f"case-{number}.yml"
                # JSON is YAML, and written at once.
                file.write_text(json.dumps(_document(case, rules)), encoding="utf-8")
                files.append(file)
            # Errors go to the one, what they belong to goes to the other.
            done = subprocess.run(
                [program("promtool"), "test", "rules", *files],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=120,
            )
        return _sorted(done.stdout, list(self._cases), failed=done.returncode != 0)


def _sorted(told: str, names: Sequence[str], *, failed: bool) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    results = re.split(r"^Unit Testing:.*\n", told, flags=re.MULTILINE)
    if len(results) != len(names) + 1:
        found[""].append(told)
        return found
    for name, result in zip(names, results[1:], strict=True):
        if result.strip() != "SUCCESS":
            found[name].append(_readable(result))
    assert bool(found) == failed, told
    return found


def _rules(case: Case, folder: Path) -> list[Path]:
    rules = COMMITTED / "rules"
    if case.policy is not None:
        write(render(case.policy, Settings()), folder)
        rules = folder / "rules"
    if case.annotations is not None:
        rules = _with_annotations(case.annotations, rules, folder / "cut")
    return [rules / "cluster.yml", rules / "utilisation.yml"]


def _with_annotations(kept: Collection[str], rules: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for file in rules.glob("*.yml"):
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in document["groups"]:
            for rule in group["rules"]:
                for name in rule.get("annotations", {}).keys() - set(kept):
                    del rule["annotations"][name]
        (folder / file.name).write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def _document(case: Case, rules: Sequence[Path]) -> dict[str, Any]:
    assert case.expected
    return {
        "rule_files": [str(file) for file in rules],
        "evaluation_interval": f"{case.interval_s}s",
        "group_eval_order": ["k3s-autoscaler-cluster", "k3s-autoscaler-utilisation"] if rules else [],
        "tests": [
            {
                "interval": f"{case.interval_s}s",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "promql_expr_test": [
                    {
                        "expr": vector.promql,
                        "eval_time": f"{vector.at_s}s",
                        "exp_samples": [
                            {"labels": vector.name + labels, "value": value} for labels, value in vector.values.items()
                        ],
                    }
                    for vector in case.expected
                    if isinstance(vector, Vector)
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
                    for firing in case.expected
                    if isinstance(firing, Firing)
                ],
            }
        ],
    }


def _readable(told: str) -> str:
    """promtool prints vectors on one line: one element a line can be compared by eye. Of a query the end says which."""
    shortened = re.sub(r'(?<=expr: ").{300,}(?=.{200}", time)', "...", told)
    return re.sub(r"(?<=\}) (-?[0-9.eE+-]+), (?=\{)", r" \1,\n             ", shortened)


def assert_rules(
    _folder: Path,
    series: Mapping[str, str],
    *expected: Vector | Firing,
    interval_s: int = 2,
    policy: Policy | None = None,
) -> None:
    """One case alone. Raises with promtool's own words where a vector or an alert differs."""
    Cases(Case("alone", series, expected, interval_s=interval_s, policy=policy)).check("alone")


def every(count: int, value: float | str) -> str:
    """`count` samples of one value."""
    return f"{value}+0x{count - 1}"
