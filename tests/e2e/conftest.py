"""The whole service on this machine, once for all tests here: the demo's story, played to its end."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from autoscaler.simulator.stack.local import LocalStack, StackSettings, Sweeper, local_stack
from autoscaler.simulator.stack.processes import repository_root
from autoscaler.simulator.stack.story import SWEEP_INTERVAL_S, Story
from autoscaler.simulator.stack.watch import Watch

POLICY = repository_root() / "demo" / "policy.yml"


@dataclass(frozen=True)
class Played:
    """A stack on which the story was played; it still runs, without the sweep."""

    stack: LocalStack
    watch: Watch
    story: Story
    took_s: float


def need_real_programs() -> None:
    """Skip with the sentence that says what is missing; fail where CI=true."""
    problems = []
    if not (repository_root() / "node_modules" / ".bin" / "sls").exists():
        problems.append("The Serverless Framework is not installed: run `npm ci`.")
    for name in ("prometheus", "promtool", "alertmanager", "amtool"):
        found = subprocess.run(
            [repository_root() / "scripts" / "find-program", name], capture_output=True, text=True, check=False
        )
        if found.returncode != 0:
            problems.append(found.stderr.strip())
    if problems and os.environ.get("CI") == "true":
        pytest.fail(" ".join(problems))
    if problems:
        pytest.skip(" ".join(problems))


@pytest.fixture(scope="session")
def real_programs() -> None:
    need_real_programs()


@pytest.fixture(scope="package")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    request.getfixturevalue("real_programs")
    began = time.monotonic()
    logs: Path = tmp_path_factory.mktemp("stack") / "logs"
    settings = StackSettings(policy_path=POLICY, recorder=True, logs=logs)
    with local_stack(settings, tell=lambda step: print(f"{step} ...")) as stack:  # noqa: T201 - shown when it fails
        watch = Watch(stack, started_at_s=time.time())
        with Sweeper(stack, SWEEP_INTERVAL_S) as sweeper:
            story = Story(stack, watch, sweeper, after_look=lambda: None)
            story.play()
        took_s = time.monotonic() - began
        watch.look()
        yield Played(stack=stack, watch=watch, story=story, took_s=took_s)
