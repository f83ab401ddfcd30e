"""Policies in files, with what they extend beside them. The only place that opens them."""

from collections.abc import Callable
from pathlib import Path

from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.policyfile.layers import layered


def load_policy(path: str | Path, *, named_by: str = "in POLICY_FILE") -> Policy:
    """Read the policy of a file. Raises PolicyError; `named_by`: where another file would be named."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PolicyError(f"{path} could not be read: {reason}. Name the policy {named_by}.") from error
    return parse_policy(text, source=str(path), beside=_beside(path))


def files_of(path: str | Path) -> tuple[tuple[str, str], ...]:
    """(path, text) of a policy's files, the one that was asked for first; of one that `load_policy` takes."""
    return layered(Path(path).read_text(encoding="utf-8"), source=str(path), beside=_beside(path)).files


def _beside(path: str | Path) -> Callable[[str], str]:
    return lambda name: (Path(path).parent / name).read_text(encoding="utf-8")
