"""What the scheduler reserves for a pod."""

import pytest

from autoscaler.model import Resources
from autoscaler.observe.requests import effective, pod_resources


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param({}, 0, id="asks nothing"),
        pytest.param({"app": 0.5}, 0.5, id="the containers"),
        pytest.param({"app": 0.5, "init": 0.2}, 0.5, id="a smaller init container hides behind them"),
        pytest.param({"app": 0.5, "init": 2}, 2, id="a larger one counts"),
        pytest.param({"app": 0.5, "sidecar": 0.1}, 0.6, id="sidecars come on top"),
        pytest.param({"app": 0.5, "init": 2, "sidecar": 0.1}, 2.1, id="also while the init containers run"),
        pytest.param({"app": 0.5, "init": 2, "sidecar": 0.1, "overhead": 0.05}, 2.15, id="and the overhead always"),
        pytest.param({"overhead": 0.05}, 0.05, id="overhead alone"),
    ],
)
def test_effective_requests(parts: dict[str, float], expected: float) -> None:
    assert effective(parts) == pytest.approx(expected)


def test_cores_become_millicores_and_every_pod_takes_one_place() -> None:
    assert pod_resources({"app": 0.0255}, {"app": 1024.4}) == Resources(cpu_millicores=26, memory_bytes=1024, pods=1)
