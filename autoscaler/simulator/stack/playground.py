"""`make playground`: the local stack stays up, for hands: addresses, exports, and commands to try.

Everything is real but AWS and the machines: the deployed functions, Prometheus, Alertmanager, the CLI. Ctrl-C ends all.
"""

import shlex
import signal
import sys
import time
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from autoscaler.simulator.stack.cloud import STAGE, aws_environment
from autoscaler.simulator.stack.local import LocalStack, StackSettings, Sweeper, local_stack
from autoscaler.simulator.stack.log_groups import LogGroups
from autoscaler.simulator.stack.processes import Interrupted, StackError, endings_raise, repository_root
from autoscaler.simulator.stack.story import SWEEP_INTERVAL_S, WEB

LOOK_EVERY_S: Final = 1.0
POLICY: Final = "demo/policy.yml"
CLI: Final = "bin/k3s-autoscaler"
_AWS: Final = (
    "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A command to try, and what it shows."""

    command: str
    shows: str

    @property
    def arguments(self) -> list[str]:
        """As a program is started with them."""
        return shlex.split(self.command)


def exports(stack: LocalStack) -> dict[str, str]:
    """What a shell needs for the CLI, or any AWS SDK, to talk to this stack and to nobody else."""
    aws = aws_environment(stack.emulator)
    return {
        **{name: aws[name] for name in _AWS},
        # The emulator keeps functions and does not run them: serverless-offline does.
        "AWS_ENDPOINT_URL_LAMBDA": stack.functions.lambda_url,
        "STAGE": STAGE,
        "POLICY_FILE": str(stack.settings.policy_path),
        "NO_PROXY": aws["NO_PROXY"],
    }


def addresses(stack: LocalStack) -> dict[str, str]:
    """What can be opened or asked, by name."""
    return {
        "Prometheus": stack.addresses.prometheus_url,
        "Alertmanager": stack.addresses.alertmanager_url,
        "the webhook": stack.functions.webhook_url,
        "AWS (moto)": stack.emulator.aws_url,
        "the cluster": f"{stack.emulator.cluster_url}/state",
    }


def trials(stack: LocalStack) -> tuple[Trial, ...]:
    """Ten commands to try, in an order that tells a story."""
    cluster = stack.emulator.cluster_url

    def scale(replicas: int) -> str:
        body = shlex.quote(f'{{"replicas": {replicas}}}')
        return f"curl -sS -X POST {cluster}/workloads/shop/web/scale -d {body}"

    return (
        Trial(command=f"{CLI} status", shows="is it alive, what is under way, what it costs"),
        Trial(command=f"{CLI} next", shows="what a look now would decide; nothing is done"),
        Trial(command=scale(9), shows="a sale: pods that fit nowhere"),
        Trial(command=f"{CLI} explain", shows="why it does, or does not, what you expect"),
        Trial(command=f"{CLI} history --since 10m", shows="what it did, the newest first"),
        Trial(command=scale(2), shows="the sale is over: watch it shrink in Prometheus and in `status`"),
        Trial(command=f"{CLI} pause --for 5m", shows="stop it now, without a deployment"),
        Trial(command=f"{CLI} resume", shows="and let it go on"),
        Trial(command=f"{CLI} doctor", shows="what stands in its way, each with its mend"),
        Trial(command=f"{CLI} validate demo/policy.yml", shows="a policy's pools, sizes and prices, or all its errors"),
    )


def guide(stack: LocalStack) -> list[str]:
    """The lines that a person reads first."""
    lines = ["It is up, and stays until Ctrl-C. In another terminal, in this folder:", ""]
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in exports(stack).items()]
    lines += ["", "Addresses:"]
    lines += [f"  {name:<14}{url}" for name, url in addresses(stack).items()]
    lines += ["", "Try:"]
    for trial in trials(stack):
        lines += [f"  {trial.command}", f"      # {trial.shows}"]
    return lines


def keep_up(stack: LocalStack, sweeper: Sweeper, console: Console) -> None:
    """Say how to use it, and stay until a signal ends it. Raises StackError when a program of the stack ends."""
    for line in guide(stack):
        # Not wrapped, not coloured: the lines are to be copied.
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    groups = LogGroups(stack.account, stack.functions_log)
    while True:
        stack.supervisor.check_alive()
        if sweeper.failure is not None:
            raise sweeper.failure
        groups.copy()
        time.sleep(LOOK_EVERY_S)


def main() -> int:
    """Start the stack with a shop's pods on it, and keep it up; returns the exit code, 0 where Ctrl-C ended it."""
    console = Console(highlight=False)

    def tell(step: str) -> None:
        console.print(f"[dim]{step} ...[/]")

    try:
        with (
            endings_raise(),
            local_stack(StackSettings(policy_path=repository_root() / POLICY), tell=tell) as stack,
            Sweeper(stack, SWEEP_INTERVAL_S) as sweeper,
        ):
            stack.cluster.apply(WEB)
            keep_up(stack, sweeper, console)
    except Interrupted as error:
        console.print(f"\nThe playground was {error}; everything that it had started is ended.")
        return 0 if error.number == signal.SIGINT else 128 + error.number
    except StackError as error:
        console.print(f"\nThe playground could not go on: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
