"""Every command that the playground tells people to try, run as they would, against the stack that stands.

The last of these tests, by its name: it changes what runs there.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from autoscaler.cli.main import app
from autoscaler.simulator.stack.log_groups import LogGroups
from autoscaler.simulator.stack.playground import CLI, exports, guide, trials
from autoscaler.simulator.stack.processes import repository_root
from tests.e2e.conftest import Played

pytestmark = pytest.mark.real_programs

SAYS = {
    f"{CLI} status": "alive",
    f"{CLI} next": "workers",
    f"{CLI} explain": "workers.",
    f"{CLI} history": "scale_up",
    f"{CLI} pause": "paused until",
    f"{CLI} resume": "active",
    f"{CLI} doctor": "prometheus",
    f"{CLI} validate": "pool general",
}
"""Of each command's words, what the answer must hold."""


def environment(played: Played) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return bare | exports(played.stack)


@pytest.fixture(scope="module")
def said(played: Played) -> dict[str, subprocess.CompletedProcess[str]]:
    LogGroups(played.stack.account, played.stack.functions_log).copy()
    answers = {}
    for trial in trials(played.stack):
        answers[trial.command] = subprocess.run(
            trial.arguments,
            cwd=repository_root(),
            env=environment(played),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    return answers


def test_there_are_ten_and_the_guide_names_each(played: Played) -> None:
    commands = [trial.command for trial in trials(played.stack)]
    assert len(commands) == 10
    lines = [line.strip() for line in guide(played.stack)]
    assert [line for line in lines if line in commands] == commands


def test_each_answers(said: dict[str, subprocess.CompletedProcess[str]]) -> None:
    found = set()
    for command, answer in said.items():
        everything = answer.stdout + answer.stderr
        assert "Traceback" not in everything, command
        # `doctor` finds something here: an emulated account has no quota to tell.
        assert answer.returncode in ({0, 1} if " doctor" in command else {0}), (command, everything)
        wanted = next((words for start, words in SAYS.items() if command.startswith(start)), None)
        if wanted is not None:
            assert wanted in everything.lower(), (command, everything)
            found.add(wanted)
    assert found == set(SAYS.values())


# ------------------------------------------------------------------------------------------------ every other command

MANIFEST = "kind: Pod\nmetadata: {name: big, namespace: shop}\nspec:\n  containers: [{name: app}]\n"
OTHERS: dict[str, tuple[str, str, frozenset[int]]] = {
    "policy schema": ("", "json-schema", frozenset({0})),
    "policy show": ("", "deployed policy", frozenset({0})),
    "policy set": ("{folder}/changes.yml", "", frozenset({0})),
    "policy apply": ("", "", frozenset({0})),
    "policy history": ("", "1", frozenset({0})),
    "policy rollback": ("", "", frozenset({0, 1})),  # of the first change there is nothing to go back to
    "policy clear": ("", "", frozenset({0})),
    "observe": ("--for 1m", "observe until", frozenset({0})),
    "token": ("--if-missing", "", frozenset({0})),
    "teardown": ("--dry-run", "", frozenset({0})),
    "verify-aws": ("--account-only", "", frozenset({0, 1})),  # an emulated account lacks some of it
    "simulate pods": ("{folder}/pod.yml", "shop/big", frozenset({0})),
    "simulate removal": ("{worker}", "{worker}", frozenset({0})),
    # Minutes are no history, which is one sentence and 1 (tests/backtest/test_real_history.py plays a day).
    "simulate policy": ("{folder}/swift.yml --prometheus {prometheus}", "", frozenset({0, 1})),
    "backtest": ("--prometheus {prometheus} --days 1", "", frozenset({0, 1})),
}
"""Command -> (arguments, what its answer holds, how it may end)."""
NOT_RUN = {"prices refresh": "it writes the clone's own price table (tests/cli/prices)"}


def leaves(command: object, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that is no group."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(words)
    for name, one in (inner or {}).items():
        yield from leaves(one, (*words, name))


def test_every_command_is_run_here_or_says_why_not(played: Played) -> None:
    tried = {trial.command.removeprefix(f"{CLI} ").split(" ")[0] for trial in trials(played.stack)}
    assert set(leaves(get_command(app))) <= {*OTHERS, *NOT_RUN, *tried}


@pytest.mark.parametrize("command", OTHERS)
def test_each_other_command_answers(played: Played, command: str, tmp_path: Path) -> None:
    (tmp_path / "changes.yml").write_text("workers: {max: 5}\n")
    (tmp_path / "pod.yml").write_text(MANIFEST)
    (tmp_path / "swift.yml").write_text("version: 1\nextends: swift\n")
    worker = next(node.name for node in played.watch.workers if node.ready)
    names = {"folder": tmp_path, "worker": worker, "prometheus": played.stack.addresses.prometheus_url}
    arguments, holds, codes = OTHERS[command]
    ran = subprocess.run(
        [CLI, *command.split(), *arguments.format(**names).split()],
        cwd=repository_root(),
        env=environment(played),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    everything = ran.stdout + ran.stderr
    assert "Traceback" not in everything
    assert ran.returncode in codes, everything
    assert everything.strip()
    assert holds.format(**names) in everything
