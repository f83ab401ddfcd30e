"""When a worker that cannot join gives up: scripts/embedded-scripts.js asks, and writes it into the workers' user data.

`python -m autoscaler.deploy.join_deadline POLICY` prints seconds. A policy that is not valid ends it with one sentence.
"""

import sys
from typing import Final

from autoscaler.policy import Policy
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError

LONGEST_S: Final = 43_200
"""What is left at least of the life of a token that a worker reads (cloudformation/scripts/server-sync.sh renews it
then): no later attempt could succeed."""


def join_deadline_s(policy: Policy) -> int:
    """How long a worker tries to join, in seconds of its own: four fifths of `workers.join_timeout_s`, 12 h at most.

    It ends itself before the policy has it replaced, with its reason on the console. The rest is for the time from the
    launch to its first line, which the policy counts and the worker does not see.
    """
    return min(policy.workers.join_timeout_s * 4 // 5, LONGEST_S)


def main() -> None:
    """Read the policy that the command line names."""
    (path,) = sys.argv[1:]
    try:
        policy = load_policy(path)
    except PolicyError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{join_deadline_s(policy)}\n")


if __name__ == "__main__":
    main()
