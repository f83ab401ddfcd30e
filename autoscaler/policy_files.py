"""Policies in files, with what they extend beside them. The only place that opens them."""

from pathlib import Path

from autoscaler.policy import Policy, PolicyError, parse_policy


def load_policy(path: str | Path, *, named_by: str = "in POLICY_FILE") -> Policy:
    """Read the policy of a file. Raises PolicyError; `named_by`: where another file would be named."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PolicyError(f"{path} could not be read: {reason}. Name the policy {named_by}.") from error
    return parse_policy(text, source=str(path), beside=lambda name: (file.parent / name).read_text(encoding="utf-8"))
