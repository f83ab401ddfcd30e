"""Whether Prometheus would take the queries of the policy's signals: `promtool` knows, where it is installed.

No parser goes into the functions: there a query that Prometheus refuses sets itself aside.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import yaml

from autoscaler.policy import Policy

_SAID: Final = "could not parse expression: "
TIMEOUT_S: Final = 20


def unparsable_signals(policy: Policy) -> list[str]:
    """One sentence for each query that is none; nothing where there is no promtool to ask."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return []
    told = ((signal.name, _refusal(promtool, signal.query)) for signal in policy.signals)
    return [f"signals.{name} has a query that Prometheus would refuse: {why}. Mend it" for name, why in told if why]


def _refusal(promtool: str, query: str) -> str:
    """What it says of the query; empty where it takes it, or fails in another way."""
    # As the look asks: an aggregation takes vectors only.
    rules = {"groups": [{"name": "signal", "rules": [{"record": "signal", "expr": f"max(\n{query}\n)"}]}]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "signal.yml")
        file.write_text(yaml.safe_dump(rules, allow_unicode=True), encoding="utf-8")
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command on a file of ours
                [promtool, "check", "rules", file], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    _, found, why = f"{done.stdout}\n{done.stderr}".partition(_SAID)
    return why.splitlines()[0].rstrip(".") if found else ""
