"""What a backtest plays and under which policies, as the command line names them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autoscaler.backtest.plan import Plan
from autoscaler.backtest.recording import BadRecording, Recording, read_recording
from autoscaler.backtest.replay import notes_of, plans_of
from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.cli.ending import WRONG_INPUT, end
from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.presets import NAMES, preset
from autoscaler.runtime import read_policy

NOTES_OF_WORKLOADS: Final = (
    "The workload is one of the bench's (docs/policy/bench.md), and not yours: it shows how policies differ.",
    "Workers come up as in the simulator (30 to 55 s), and Spot is paid at a fixed share of the on-demand price.",
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is played."""

    title: str
    plans: list[Plan]
    notes: tuple[str, ...]
    recording: Recording | None = None


def of_workload(name: str) -> Source:
    """A named workload, or an end with WRONG_INPUT."""
    if name not in WORKLOADS:
        end(f"There is no workload {name!r}: give one of {', '.join(WORKLOADS)}.", WRONG_INPUT)
    plan = WORKLOADS[name]()
    about = f"{name}: {plan.about}."
    return Source(title=name, plans=[plan], notes=(about, *NOTES_OF_WORKLOADS))


def of_file(file: Path) -> Source:
    """A recording, or an end with WRONG_INPUT."""
    try:
        recording = read_recording(file)
    except BadRecording as error:
        end(str(error), WRONG_INPUT)
    return of_recording(recording, file.name, else_code=WRONG_INPUT)


def of_recording(recording: Recording, title: str, *, else_code: int) -> Source:
    """What was recorded, or an end with `else_code` where that is nothing."""
    plans = plans_of(recording, title)
    if not plans:
        end(
            f"{title} holds no two moments in a row at which everything is known, so there is nothing to play. "
            f"{' '.join(recording.notes)}".strip(),
            else_code,
        )
    return Source(title=title, plans=plans, notes=notes_of(recording), recording=recording)


def policies_of(files: list[Path], presets: list[str], *, default: Path | None) -> dict[str, Policy]:
    """By the names that the report shows, in the order given, or an end with WRONG_INPUT.

    `default` is taken where nothing else is named.
    """
    chosen = files or ([default] if default is not None and not presets else [])
    paths = [file.absolute() for file in chosen]
    if twice := [file for number, file in enumerate(chosen) if paths[number] in paths[:number]]:
        end(f"{twice[0]} is given twice: name each policy once.", WRONG_INPUT)
    if twice_named := [name for number, name in enumerate(presets) if name in presets[:number]]:
        end(f"The preset {twice_named[0]} is given twice: name each policy once.", WRONG_INPUT)
    policies: dict[str, Policy] = {}
    for file in chosen:
        try:
            policies[file.stem if file.stem not in policies else str(file)] = read_policy(str(file))
        except PolicyError as error:
            end(str(error), WRONG_INPUT)
    for name in presets:
        if name not in NAMES:
            end(f"There is no preset {name!r}: give one of {', '.join(NAMES)}.", WRONG_INPUT)
        policies[f"{name} (preset)" if name in policies else name] = parse_policy(preset(name))
    for name, policy in policies.items():
        if unknown := [kind for kind in policy.instance_types if kind not in CATALOGUE]:
            end(
                f"The policy {name} names {unknown[0]}, whose size or price nobody knows here: play it with a type of "
                f"the catalogue, such as {next(iter(CATALOGUE))}.",
                WRONG_INPUT,
            )
    return policies


def check_writable(*files: Path | None) -> None:
    """End with WRONG_INPUT where a file could not be written later: a long play would be lost."""
    for file in files:
        if file is None:
            continue
        if file.is_dir() or not file.absolute().parent.is_dir():
            why = "it is a folder" if file.is_dir() else f"there is no folder {file.absolute().parent}"
            end(f"{json.dumps(str(file))[1:-1]} cannot be written: {why}.", WRONG_INPUT)
