"""`k3s-autoscaler simulate pods FILE`: how many workers would come for these manifests, which, and at what price."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from autoscaler.cli.ending import WRONG_INPUT, end
from autoscaler.cli.here import Here, LocalPolicy, answered_by, source
from autoscaler.cli.options import AsJson
from autoscaler.cli.sheet import heading, say, tell
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.times import moment
from autoscaler.decide.words import count

HOURS_A_MONTH = 730
LARGEST_BYTES = 4 * 1024 * 1024
"""An invocation takes 6 MB (Lambda quotas), and JSON is longer than YAML."""


@aimed
def simulate_pods(
    *,
    target: Target,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Manifests as YAML or JSON; - reads standard input.")],
    prometheus: Here = "",
    policy: LocalPolicy = "policy.yml",
    as_json: AsJson = False,
) -> None:
    """Show which workers would come if these manifests were applied now; nothing is applied.

    Deployments, ReplicaSets, StatefulSets, Jobs, CronJobs, DaemonSets and Pods count; other objects are passed over.
    """
    manifests = read_documents(file)
    found = answered_by(target, prometheus, policy, "pods", manifests=manifests)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    heading(f"{target.cluster_id}, {moment(found['now_s'])} ({source(target, prometheus)})")
    for one in found["workloads"]:
        left_out = f"; left out: {one['left_out']}" if one["left_out"] else ""
        say(f"{one['title']}: {count(one['pods'], 'pod')}{left_out}")
    if found["passed_over"]:
        say(f"passed over, as they run no pods: {', '.join(found['passed_over'])}")
    _show_workers(found)
    for one in found["daemons"]:
        by = ", ".join(f"{plugin} on {number}" for plugin, number in one["refused_by"].items())
        say(f"{one['daemon']}: fits on {one['fits_on']} of the present workers{f'; refused: {by}' if by else ''}")
    if found["unhelped"]:
        heading("pods that no new worker helps:")
        tell(found["unhelped"])
    if found["limits"]:
        heading("limits:")
        tell(found["limits"])
    for sentence in (found["withheld"], found["rules_problem"], *found["would_ask"]):
        if sentence:
            say(sentence, indent=0)


def _show_workers(found: dict[str, Any]) -> None:
    workers = found["workers"]
    if not workers:
        fit = not (found["unhelped"] or found["limits"])
        heading(f"new workers: none{'; these pods fit on what is there' if fit else ''}")
        return
    heading(f"new workers: {sum(one['count'] for one in workers)}")
    for one in workers:
        price = "price unknown" if one["usd_per_hour"] is None else f"${one['usd_per_hour']:.4f} an hour each"
        where = f" in {one['zone']}" if one["zone"] else ""
        say(f"{one['count']} x {one['instance_type']} ({one['market']}, pool {one['pool']}){where}: {price}")
    usd = found["usd_per_hour"]
    more = f", and {found['unknown_prices']} of unknown price" if found["unknown_prices"] else ""
    say(f"together ${usd:.4f} an hour, ${usd * HOURS_A_MONTH:.2f} a month{more}")


def read_documents(file: str) -> list[Any]:
    """The objects of a file; ends with one sentence that names the line where it is no YAML."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        end(f"{file} cannot be read: {why}.", WRONG_INPUT)
    name = "standard input" if file == "-" else file
    if len(text.encode()) > LARGEST_BYTES:
        end(f"{name} has more than {LARGEST_BYTES // 2**20} MiB: give fewer manifests.", WRONG_INPUT)
    try:
        found = [one for one in yaml.safe_load_all(text) if one is not None]
        json.dumps(found)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}" if mark is not None else "somewhere"
        end(f"{name} is not valid YAML: {where}: {error.problem or 'it does not read'}.", WRONG_INPUT)
    except (yaml.YAMLError, RecursionError) as error:
        end(f"{name} is not valid YAML: {' '.join(str(error).split())[:200]}.", WRONG_INPUT)
    except TypeError:
        end(f"{name} holds a value that JSON does not know, such as a date: put it in quotes.", WRONG_INPUT)
    if not found:
        end(f"{name} holds no manifest.", WRONG_INPUT)
    return found
