"""Seeds of the fault simulator: every invariant after every step, and the demand reached once the faults stop."""

import pytest

from autoscaler.simulator.soak.run import Run


@pytest.mark.parametrize("seed", range(1, 31))
def test_no_fault_breaks_an_invariant(seed: int) -> None:
    result = Run(seed).run()
    assert result.violation is None, "\n".join([*result.lines[-40:], str(result.violation)])
    assert result.injected.total() > 0
    assert result.checks.total() > 0
