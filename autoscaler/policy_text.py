"""YAML into a Policy, or everything that is wrong with it, a sentence each.

How values may be written is the business of autoscaler/policyfile/, what they mean of autoscaler/policy.py.
"""

import errno
from collections.abc import Callable, Sequence

from autoscaler import pool_faults
from autoscaler.policy import Policy
from autoscaler.policyfile.layers import BadLayers, layered
from autoscaler.policyfile.reading import read
from autoscaler.policyfile.text import BadYaml


class PolicyError(ValueError):
    """The policy is not valid; the message says which value, what is allowed, and what to do."""

    def __init__(self, message: str, *, faults: Sequence[str] = (), files: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        """What the message says, a sentence for each fault; none where it is no field that is wrong."""
        self.files = tuple(files)
        """(path, text) of what was read, the file that counts first in front."""


def parse_policy(text: str, *, source: str = "policy.yml", beside: Callable[[str], str] | None = None) -> Policy:
    """Turn YAML into a Policy. Raises PolicyError with everything that is wrong, a sentence each.

    `beside` gives the text of a file that it extends, by its name, or raises OSError; without it only presets may be
    extended.
    """
    try:
        tree, sources, files = layered(text, source=source, beside=beside or _nothing_beside)
    except BadYaml as error:
        raise PolicyError(f"{source} is not valid YAML: {error}. Mend it and deploy again.") from error
    except BadLayers as error:
        raise PolicyError(f"{error.source} is not a valid policy: {error}.") from error
    policy, wrong = read(Policy, tree)
    workers = tree.get("workers") if isinstance(tree, dict) else None
    if isinstance(workers, dict) and (both := pool_faults.flat_beside_pools(workers)):
        policy, wrong = None, (*wrong, f"{both}. docs/policy/pools.md shows both forms")
    if policy is None:
        layers = f" with {' and '.join(sources[1:])}" if sources[1:] else ""
        raise PolicyError(
            f"{source}{layers} is not a valid policy: {told(wrong)} The committed policy.yml shows every field.",
            faults=wrong,
            files=files,
        )
    return policy


def _nothing_beside(name: str) -> str:
    raise FileNotFoundError(errno.ENOENT, "this text is no file, so nothing lies beside it", name)


def told(faults: Sequence[str]) -> str:
    """Faults in one line, numbered where there are several."""
    if len(faults) > 1:
        listed = "; ".join(f"({number}) {fault}" for number, fault in enumerate(faults, start=1))
        faults = [f"{len(faults)} things are wrong: {listed}"]
    return faults[0] if faults[0].endswith("?") else f"{faults[0]}."
