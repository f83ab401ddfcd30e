"""What stands in the way now, from the decision that a look would make now (autoscaler/ask/next_decision.py)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from autoscaler.cli.verify.checks import Finding, ok, problem, warning

NAMED: Final = 3
"""As many blocked Nodes and pods are named; `explain` has all."""


def findings_of(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """The mode, operations that are stuck, live refusals, and what the decision says."""
    decision = answer["decision"]
    yield _mode(answer, decision)
    for row in decision["operations"]:
        if row.get("stuck"):
            todo = "k3s-autoscaler status shows its phase; docs/operations.md says what each waits for."
            said = f"{row['kind']} of {row['node'] or row['operation_id']} has been {row['phase']} for {row['age_s']} s"
            yield problem("operations", f"{said}, longer than the policy explains", todo)
    if decision["failed_launches"]:
        said = f"{decision['failed_launches']} launches in a row came to nothing: no worker joined, or EC2 refused them"
        todo = (
            "aws ec2 get-console-output of the last one tells why; the alarm's chapter in docs/operations.md has more."
        )
        yield problem("joining", said, todo)
    refused = decision["action"] == "held_back"
    blocked = decision["blocked"]
    if refused or decision["failures"]:
        said = "; ".join([decision["message"], *decision["failures"]])
        yield warning("decision now", said, "k3s-autoscaler explain says which field of the policy holds it.")
    else:
        yield ok("decision now", decision["message"])
    if blocked:
        named = ", ".join(f"{row['subject']}: {row['code']}: {row['text']}" for row in blocked[:NAMED])
        more = f", and {len(blocked) - NAMED} more" if len(blocked) > NAMED else ""
        yield ok("held back", f"{named}{more}")


def _mode(answer: Mapping[str, Any], decision: Mapping[str, Any]) -> Finding:
    if not answer["withheld"]:
        return ok("mode", f"{decision['mode']}: a look now does what it decides")
    said, _, todo = str(answer["withheld"]).partition(". ")
    return warning("mode", said, todo)
