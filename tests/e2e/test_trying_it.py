"""Every command that the playground tells people to try, run as they would, against the stack that stands.

The last of these tests, by its name: it changes what runs there.
"""

import os
import subprocess

import pytest

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
