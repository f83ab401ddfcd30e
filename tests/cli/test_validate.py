"""`k3s-autoscaler validate`: each pool resolved, or one sentence and nothing else."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autoscaler.cli.main import app

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
    assert lines[0].startswith(f"{path} is valid.")
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
    prices = {line.split()[0]: line.split()[6] for line in shown.splitlines() if line.startswith("  t")}
    assert (prices["t4g.small"], prices["t3.small"]) == ("?", "0.5000")


def test_the_committed_policy_is_valid() -> None:
    shown = validated(str(ROOT / "policy.yml"))
    assert shown.exit_code == 0
    assert "pool general: on-demand, 2 to 10 workers" in shown.output


@pytest.mark.parametrize("text", ["version: 1\nworkers: {pools: [{name: a}]}\n", "version: 2\n", "["])
def test_what_is_refused_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(text)
    shown = validated(str(path))
    assert shown.exit_code == 2
    assert len(shown.output.strip().splitlines()) == 1
    assert str(path) in shown.output
