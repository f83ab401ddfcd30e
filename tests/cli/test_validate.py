"""`k3s-autoscaler validate`: each pool resolved, or everything that refuses it, with its place."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autoscaler.cli.main import app
from autoscaler.decide.capacity.prices import price_table
from autoscaler.deploy.rules import Settings, render, write
from autoscaler.policy_text import parse_policy

ROOT = Path(__file__).parents[2]
POOLS = """
version: 1
workers:
  max: 20
  pools:
    - {name: general, requirements: {cpu: 2, memory: 2 GiB, exclude: ["c*"]}, min: 1}
    - {name: gpu, instance_types: [g4dn.xlarge], taints: ["nvidia.com/gpu=true:NoSchedule"], labels: {a: b}, max: 4}
"""


def validated(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["validate", *arguments], env={"AWS_REGION": ""})


def test_each_pool_is_shown_with_its_types_sizes_and_prices(tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(POOLS)
    shown = validated(str(path), "--region", "us-east-1")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    of = price_table()["us-east-1"]["on-demand"].dated
    assert lines[0] == (
        f"{path} is valid. Prices: US dollars an hour on demand in us-east-1 as of {of}, ? where nobody knows."
    )
    general = lines.index("pool general: on-demand, 1 to 20 workers")
    assert [line.split() for line in lines[general + 2 : general + 5]] == [
        ["t4g.small", "arm64", "2", "2", "1.89", "1.4", "0.0168"],
        ["t3a.small", "amd64", "2", "2", "1.89", "1.4", "0.0188"],
        ["t3.small", "amd64", "2", "2", "1.89", "1.4", "0.0208"],
    ]
    gpu = lines.index("pool gpu: on-demand, 0 to 4 workers, label a=b, taint nvidia.com/gpu=true:NoSchedule")
    assert lines[gpu + 2].split()[-3:] == ["0.5260", "1", "nvidia.com/gpu"]


def test_a_price_that_nobody_knows_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(POOLS + "cost: {usd_per_hour: {t3.small: 0.5}}\n")
    shown = validated(str(path), "--region", "eu-central-1").output
    assert "on demand in eu-central-1, ? where nobody knows." in shown
    prices = {line.split()[0]: line.split()[6] for line in shown.splitlines() if line.startswith("  t")}
    assert (prices["t4g.small"], prices["t3.small"]) == ("?", "0.5000")


MIXED = "{name: general, instance_types: [t4g.small]}, {name: spot, instance_types: [t3.small, m5.large], market: spot}"


@pytest.mark.parametrize(
    ("cost", "region", "said"),
    [
        pytest.param("{}", "eu-central-1", [], id="nobody counts"),
        pytest.param("{max_usd_per_hour: 1, other_usd_per_hour: 0.1}", "eu-central-1", [], id="what they count at"),
        pytest.param(
            "{max_usd_per_hour: 1}",
            "us-east-1",
            ["is not known, and in us-east-1 that is t3.small (spot), m5.large (spot): "],
            id="Spot has none until it is fetched",
        ),
        pytest.param(
            "{max_usd_per_hour: 1, usd_per_hour: {t3.small: 0.02}}",
            "eu-central-1",
            ["that is t4g.small (on-demand), t3.small (spot), m5.large (spot) and 1 more: `k3s-autoscaler prices "],
            id="no more than three are named",
        ),
        pytest.param(
            "{baseline_workers: 5, baseline_type: t9.huge}",
            "us-east-1",
            ["cost.baseline_workers tells no saving, since the price of t9.huge in us-east-1 is not known: "],
            id="a baseline",
        ),
    ],
)
def test_money_that_comes_to_nothing_without_a_price_is_a_warning(
    tmp_path: Path, cost: str, region: str, said: list[str]
) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(f"version: 1\nworkers: {{pools: [{MIXED}]}}\ncost: {cost}\n")
    shown = validated(str(path), "--region", region)
    assert shown.exit_code == 0
    told = [line for line in shown.stderr.splitlines() if line.startswith("Will not do what it says: ")]
    assert len(told) == len(said)
    assert all(words in line for words, line in zip(said, told, strict=True))
    findings = json.loads(validated(str(path), "--region", region, "--json").stdout)["findings"]
    assert [f["verdict"] for f in findings if f["said"].startswith("cost.")] == ["warning"] * len(said)


def test_the_committed_policy_is_valid() -> None:
    shown = validated(str(ROOT / "policy.yml"))
    assert shown.exit_code == 0
    assert "pool general: on-demand, 2 to 10 workers" in shown.output


@pytest.mark.parametrize("text", ["version: 1\nworkers: {pools: [{name: a}]}\n", "version: 2\n", "["])
def test_one_fault_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(text)
    shown = validated(str(path))
    assert shown.exit_code == 2
    assert len(shown.output.strip().splitlines()) == 1
    assert str(path) in shown.output


WRONG = """
version: 1
mode: off
scale_up:
  cpu_above: 70
  window: 10m
workers:
  max: off
  pools:
    - name: a
      instance_types: [t3.small]
      max: 3
      min: 9
    - {name: b, instance_types: [t3.small], labels: {"kubernetes.io/x": y}}
headroom:
  pod:
    cpu_millicores: 500m
signals:
  - {name: queue, query: "sum(x)", above: 5, window_s: 30:00}
"""
TOLD = {
    3: "mode is 'off': write active or observe or paused.",
    5: "scale_up.cpu_above is 70: write 0.70 or 70%.",
    6: "scale_up.window is an unknown field: did you mean window_s?",
    8: "workers.max is 'off': write a whole number from 0 to 1000.",
    13: "workers.pools.a: min is 9 and max is 3: min may not exceed max.",
    14: "workers.pools.b: labels names 'kubernetes.io/x', which a kubelet may not set (NodeRestriction): choose a "
    "prefix outside kubernetes.io and k8s.io, or node.kubernetes.io.",
    16: "headroom.pod.memory_mib is missing: write a whole number of MiB from 1 to 67108864, such as 512MiB or 4GiB.",
    19: "signals.queue.window_s is 30:00: write 90s, 10m, 1h30m or 2d: a colon does not say of what.",
}


def test_every_fault_has_a_line_of_its_own_and_names_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(WRONG)
    shown = validated(str(path))
    assert shown.exit_code == 2
    assert shown.stdout == ""
    *faults, last = shown.stderr.splitlines()
    assert faults == [f"{path}:{line}: {sentence}" for line, sentence in TOLD.items()]
    assert last.startswith(f"{path} is not valid: {len(TOLD)} things are wrong.")
    findings = json.loads(validated(str(path), "--json").stdout)["findings"]
    assert [(f["line"], f["said"], f["file"], f["verdict"]) for f in findings] == [
        (line, sentence.removesuffix("."), str(path), "problem") for line, sentence in TOLD.items()
    ]


def test_a_fault_is_in_the_file_that_was_changed_or_in_the_one_that_holds_the_field(tmp_path: Path) -> None:
    base, prod = tmp_path / "policy.yml", tmp_path / "policy.prod.yml"
    base.write_text("version: 1\nworkers:\n  min: 30\n  max: 40\ndrain: {timeout_s: soon}\n")
    prod.write_text("extends: policy.yml\n\nworkers: {max: 20}\ndrain: {force: true}\n")
    first, second, _ = validated(str(prod)).stderr.splitlines()
    assert first.startswith(f"{prod}:3: workers.min is 30 and workers.max is 20")
    assert second.startswith(f"{base}:5: drain.timeout_s is 'soon'")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("version: 1\nscale_up: [\n", ":3: "),
        ("version: 1\ndrain: {}\ndrain: {}\n", "policy.yml is not valid YAML: line 3: drain stands twice. Mend it"),
        ("version: 1\nworkers:\n  instance_types: [t3.small, x9.huge]\n", ":3: workers.instance_types names x9.huge"),
        ("extends: policy.missing.yml\n", "extends is policy.missing.yml, which cannot be read"),
    ],
)
def test_yaml_types_and_layers_are_told_with_their_place(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(text)
    shown = validated(str(path))
    assert shown.exit_code == 2
    assert len(shown.stderr.splitlines()) == 1
    assert f"{path}{where}" in shown.stderr or where in shown.stderr


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    shown = validated(str(tmp_path / "none.yml"))
    assert (shown.exit_code, shown.stderr.count("\n"), "could not be read" in shown.stderr) == (2, 1, True)
    document = json.loads(validated(str(tmp_path / "none.yml"), "--json").stdout)
    assert (document["valid"], document["findings"][0]["line"]) == (False, None)


def test_rules_of_another_policy_are_a_warning_and_refused_where_it_is_deployed(tmp_path: Path) -> None:
    path = tmp_path / "policy.prod.yml"
    path.write_text("version: 1\nscale_up: {cpu_above: 80%}\n")
    mend = "run `make rules POLICY=policy.prod.yml`"
    shown = validated(str(path))
    assert (shown.exit_code, mend in shown.stderr) == (0, True)
    assert "pool general" in shown.stdout
    strict = validated(str(path), "--strict")
    assert (strict.exit_code, mend in strict.stderr, strict.stdout) == (2, True, "")
    document = json.loads(validated(str(path), "--json").stdout)
    assert (document["valid"], [f["verdict"] for f in document["findings"]]) == (True, ["warning"])
    write(render(parse_policy(path.read_text()), Settings()), tmp_path / "rendered")
    assert validated(str(path), "--rules", str(tmp_path / "rendered"), "--strict").exit_code == 0


def test_an_invalid_policy_is_not_packaged(tmp_path: Path) -> None:
    path, made = tmp_path / "policy.yml", tmp_path / "made.zip"
    path.write_text("version: 1\nworkers: {min: 20}\n")
    command = [str(ROOT / "scripts" / "package"), "--policy", str(path), "--out", str(made)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, made.exists()) == (2, False)
    assert f"{path}:2: workers.min is 20 and workers.max is 10" in ran.stderr
