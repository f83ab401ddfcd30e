"""What the function tells of itself (autoscaler/ask/reach.py), judged: its own way out, its policy, Prometheus' rules.

Pure: an answer and what it is to be held against come in, findings go out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.cli.verify.checks import DENIED, Finding, ok, problem, warning
from autoscaler.observe.presence import CLOCK_TOLERANCE_S, INTERVALS_OF_AGE
from autoscaler.policy import Policy

NETWORK: Final = "docs/attach.md tells the ways to it: security groups and port 30090, the VPC's routes, the address."
SLOW_MS: Final = 1_500
"""A look makes several of these calls, and has a few seconds for all of them."""
OWN_CLOCK_S: Final = 30
"""Durations that a person gives are counted from their own clock."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer is held against, from the clone that the command runs in."""

    now_s: int
    policy_file: str
    policy_hash: str | None
    """Of the policy file; None where there is none here."""
    no_policy: str = ""
    """Why there is none."""
    marks: frozenset[str] | None
    """Of rules that this version renders from the function's policy; None without a clone's templates."""


def findings_of(answer: Mapping[str, Any], expected: Expected) -> Iterator[Finding]:
    """Everything that the answer shows, good and bad."""
    yield from (_reached(row) for row in answer["reached"])
    yield from _policy(answer["policy"], expected)
    yield from _clocks(answer, expected)
    yield from _metrics(answer["metrics"])
    yield from _rules(answer["rules"], expected)
    yield from _kubelets(answer["kubelets"])


def policies_of(answer: Mapping[str, Any]) -> tuple[Policy, Policy]:
    """The function's policy as it is deployed, and with its live changes. Raises ValueError for another version's."""
    deployed, in_force = (msgspec.convert(answer["policy"][name], Policy) for name in ("deployed", "in_force"))
    return deployed, in_force


def _reached(row: Mapping[str, Any]) -> Finding:
    name = f"from the function: {row['what']}"
    if row["problem"]:
        return problem(name, f"{row['call']}: {row['problem']} (after {row['ms']} ms)", _mend(row))
    if row["ms"] > SLOW_MS:
        todo = "Look for an overloaded Prometheus, or a way out of the VPC that loses packets."
        return warning(name, f"{row['call']} answered only after {row['ms']} ms", todo)
    return ok(name, f"{row['call']} answered in {row['ms']} ms")


def _mend(row: Mapping[str, Any]) -> str:
    if row["what"].startswith("Prometheus"):
        return _mend_of_prometheus(row)
    if row["code"] in DENIED:
        return (
            "The function's role lacks it: deploy the service again; the findings about roles say what else denies it."
        )
    if row["code"].startswith(("StateMalformed", "RulesMalformed")) or "does not decode" in row["problem"]:
        return "Something else wrote the item: see docs/operations.md."
    return f"Give the function a way to it. {NETWORK}"


def _mend_of_prometheus(row: Mapping[str, Any]) -> str:
    said, code = row["problem"], row["code"]
    if code in {"401", "403"} or " 401" in said or " 403" in said:
        return "Correct the credentials in the SSM parameter that prometheusAuthParameter names."
    if "certificate" in said.lower() or "SSL" in said:
        return "Give the CA that signed its certificate, with prometheusCaParameter."
    if "did not answer within" in said:
        return f"Let the function's security group reach its port, or look at its load. {NETWORK}"
    if "Connection refused" in said:
        return "Nothing listens there: see that Prometheus runs, and that prometheusUrl names its port (30090)."
    return f"See that prometheusUrl names Prometheus itself. {NETWORK}"


def _policy(policy: Mapping[str, Any], expected: Expected) -> Iterator[Finding]:
    name = "policy"
    live = f", with version {policy['version']} of its live changes ({policy['hash']})" if policy["version"] else ""
    said = f"the function has {policy['deployed_hash']}{live}"
    if policy["problem"]:
        todo = "k3s-autoscaler policy set with a valid one, or k3s-autoscaler policy rollback."
        yield problem("live policy", f"a change is refused: {policy['problem']}", todo)
    if expected.policy_hash is None:
        yield warning(name, f"{said}; {expected.no_policy}", "Name the file with --policy, or see what validate says.")
    elif expected.policy_hash != policy["deployed_hash"]:
        told = f"{said}, and {expected.policy_file} is {expected.policy_hash}"
        yield warning(name, told, "Deploy it (make up, sls deploy), or name the stage's own file with --policy.")
    else:
        yield ok(name, f"{said}, as {expected.policy_file} does")


def _clocks(answer: Mapping[str, Any], expected: Expected) -> Iterator[Finding]:
    apart_s = expected.now_s - answer["now_s"]
    if abs(apart_s) > OWN_CLOCK_S:
        said = f"this machine is {abs(apart_s)} s {'ahead of' if apart_s > 0 else 'behind'} the function"
        yield warning("your clock", said, "Set it by NTP: AWS refuses requests that are 5 minutes off.")
    metrics = answer["metrics"]
    if metrics is None or metrics["clock_ahead_s"] is None:
        return
    ahead_s = metrics["clock_ahead_s"]
    name = "Prometheus' clock"
    if abs(ahead_s) > CLOCK_TOLERANCE_S:
        said = f"{ahead_s:+d} s against the function: its answers count as somebody's cache, and nothing is computed"
        yield problem(name, said, "See that chrony runs on the server (chronyc tracking), or what caches its answers.")
    elif abs(ahead_s) > OWN_CLOCK_S:
        yield warning(name, f"{ahead_s:+d} s against the function", "See that chrony runs on the server.")
    else:
        yield ok(name, f"{ahead_s:+d} s against the function")


def _metrics(metrics: Mapping[str, Any] | None) -> Iterator[Finding]:
    if metrics is None:
        yield warning("metrics", "not known: Prometheus or EC2 did not answer", "Mend that first.")
        return
    if not metrics["problems"]:
        yield ok("metrics", "whole, fresh, and of this cluster")
    yield from (_with_mend(problem, "metrics", sentence) for sentence in metrics["problems"])
    yield from (_with_mend(warning, "metrics for some features", sentence) for sentence in metrics["unshown"])


def _with_mend(verdict: Callable[[str, str, str], Finding], name: str, sentence: str) -> Finding:
    """Sentences of observe/presence.py go on to their mend behind a colon or a semicolon."""
    said, mark, todo = min((sentence.partition(mark) for mark in (": ", "; ")), key=lambda parts: len(parts[0]))
    if not mark:
        return verdict(name, said, "docs/metrics.md has a table of what each series needs.")
    return verdict(name, said, f"{todo[:1].upper()}{todo[1:]}.")


def _rules(rules: Sequence[Mapping[str, Any]] | None, expected: Expected) -> Iterator[Finding]:
    name = "Prometheus' rules"
    bring = (
        "Run `make rules` (POLICY=the deployed file) and bring monitoring/rules/ to Prometheus (docs/monitoring.md)."
    )
    if rules is None:
        yield warning(name, "not known: Prometheus was not reached", "Mend that first.")
        return
    if not rules:
        yield problem(name, "not loaded: nothing records k3s_autoscaler:evaluated_at", bring)
        return
    fresh = [row for row in rules if row["age_s"] <= INTERVALS_OF_AGE * float(row["interval_s"] or 60)]
    newest = min(rules, key=lambda row: row["age_s"])
    if not fresh:
        said = f"last evaluated {newest['age_s']} s ago, every {newest['interval_s']} s is due"
        yield problem(name, said, "Prometheus' page Rules shows which one fails, or that they are loaded no longer.")
        return
    marks = {row["rendered"] for row in fresh}
    told = f"evaluated {newest['age_s']} s ago"
    if len(marks) > 1:
        said = f"two generations record at once: {', '.join(mark or 'unmarked' for mark in sorted(marks))}"
        yield problem(name, said, "Let one Prometheus evaluate them, or reload the one that was forgotten.")
    elif marks == {""}:
        yield warning(
            name, f"{told}; of a version before rules named themselves, so of which policy is not known", bring
        )
    elif expected.marks is None:
        yield warning(name, f"{told}; not compared, for there are no templates here", "Run this in a clone.")
    elif marks <= expected.marks:
        yield ok(name, f"{told}, and rendered from the function's policy ({', '.join(marks)})")
    else:
        wanted = " or ".join(sorted(expected.marks))
        said = f"{told}, and rendered from another policy or version: {', '.join(marks)}, due is {wanted}"
        yield problem(name, said, bring)


def _kubelets(kubelets: Mapping[str, int]) -> Iterator[Finding]:
    if not kubelets:
        return
    name, told = "K3s", ", ".join(f"{version} on {count}" for version, count in sorted(kubelets.items()))
    if len(kubelets) > 1:
        todo = "Nothing in an upgrade that ends soon; else set rotation.drift to [k3s_version] (docs/upgrade.md)."
        yield warning(name, f"several versions run: {told}", todo)
    else:
        yield ok(name, told)
