"""The options that commands share beside those that name a cluster (target.py)."""

from typing import Annotated

import typer

from autoscaler.cli.duration import DurationError, parse_duration
from autoscaler.cli.ending import WRONG_INPUT, end

REGION_VARIABLES = ["AWS_REGION", "AWS_DEFAULT_REGION"]
"""The first wins, as in AWS' own command line; botocore by itself hears the second only."""
Region = Annotated[
    str, typer.Option("--region", envvar=REGION_VARIABLES, help="The AWS region; without it the profile's.")
]
Profile = Annotated[
    str, typer.Option("--profile", help="A profile of ~/.aws/config; without it AWS' own settings hold.")
]
PolicyFile = Annotated[
    str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy file that is deployed: waits are known by it.")
]
For = Annotated[str, typer.Option("--for", help="How long: 45s, 30m, 2h, 1h30m, 1d. Without it: until changed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def seconds(text: str) -> int:
    """A duration as people write it."""
    try:
        return parse_duration(text)
    except DurationError as error:
        end(str(error), WRONG_INPUT)


def examples(*commands: str) -> str:
    """The end of a command's help: what to type, as it is typed."""
    typed = "".join(f"\n  k3s-autoscaler {command}" for command in commands)
    return f"\b\nExamples:{typed}"  # click leaves a paragraph after \b as it is
