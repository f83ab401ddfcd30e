"""What `explain` prints: of the fleet, of a worker, of a pod."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from autoscaler.cli.duration import say_duration
from autoscaler.cli.sheet import heading, in_words, lever, say, tell
from autoscaler.cli.times import moment

MOST_ROWS = 4
"""Of one kind, in the answer about the whole fleet; all of them are in --json."""
MOST_PLACES = 12


def show_answer(answer: Mapping[str, Any], *, cluster: str, source: str) -> None:
    """What the decision would be, and then what was asked about."""
    decision = answer["decision"]
    heading(f"{cluster}, {moment(answer['now_s'])} ({source}; mode {decision['mode']})")
    say(f"now: {decision['action']} ({decision['reason']}): {decision['message']}", indent=0)
    if answer["withheld"]:
        say(answer["withheld"], indent=0)
    if "worker" in answer:
        _show_worker(answer["worker"])
    elif "pod" in answer:
        _show_pod(answer["pod"])
    else:
        _show_fleet(answer)
    for sentence in answer["would_ask"]:
        say(sentence, indent=0)


def _show_fleet(answer: Mapping[str, Any]) -> None:
    heading("growth:")
    tell(verdict["line"] for verdict in answer["signals"])
    tell(answer["limits"])
    _some(answer["pods"], "pods")
    heading("removals:")
    tell(answer["removals"])
    _some(answer["workers"], "workers")
    if answer["others"]:
        heading("also:")
        _some(answer["others"], "others")


def _some(rows: list[Mapping[str, Any]], what: str) -> None:
    tell(rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        say(f"and {len(rows) - MOST_ROWS} more {what}: --json")


def _show_worker(worker: Mapping[str, Any]) -> None:
    name = worker["node"] or worker["instance_id"]
    also = f", {worker['instance_id']}" if worker["node"] and worker["instance_id"] else ""
    heading(f"{name}{also}: {worker['standing']}; {worker['facts']}")
    if worker["under_way"]:
        say(worker["under_way"])
    if worker["standing"] != "ready":
        return
    if worker["leaves"]:
        say("a look now would drain it")
    _part("keeps it, whatever the demand:", worker["own"], nothing="nothing of its own keeps it")
    _part("needs it:", worker["demand"], nothing="" if worker["unknown"] else "demand does without it")
    if worker["unknown"]:
        say(f"more may keep it: {worker['unknown']}")
    if not worker["leaves"]:
        _part("holds every removal:", worker["everybody"], nothing="")
    if worker["turn"] is not None:
        before = worker["before"]
        after = f", after {', '.join(before[:3])}{f' and {len(before) - 3} more' if len(before) > 3 else ''}"
        say(f"judged as number {worker['turn']}{after if before else ''}: empty ones first, then the oldest")


def _part(title: str, lines: list[Mapping[str, Any]], *, nothing: str) -> None:
    if not lines:
        if nothing:
            say(nothing)
        return
    say(title)
    for line in lines:
        say(in_words(line), indent=4)


def _show_pod(pod: Mapping[str, Any]) -> None:
    waits_s = pod["waits_s"]
    where = f"runs on {pod['node']}" if pod["node"] else "waits" + (f" for {say_duration(waits_s)}" if waits_s else "")
    heading(f"{pod['pod']}: {where}; asks for {pod['asks_for']}")
    if pod["rules"]:
        say(pod["rules"])
    tell(pod["why"])
    there = [place for place in pod["places"] if not place["new"]]
    if there:
        heading(f"workers ({sum(1 for place in there if place['line'] is None)} of {len(there)} would take it):")
        _places(there)
    new = [place for place in pod["places"] if place["new"]]
    if new:
        heading("workers that could be launched:")
        _places(new)


def _places(places: list[Mapping[str, Any]]) -> None:
    """By name up to a number; the rest by the filter that refuses them."""
    for place in places[:MOST_PLACES]:
        usd = place.get("usd_per_hour")
        price = f" (${usd:.4f} an hour)" if usd is not None else ""
        line = place["line"]
        said = "it fits" if line is None else f"{line['about']}: {line['says']} [{lever(line)}]"
        say(f"{place['name']}{price}: {said}")
    rest = Counter(place["line"]["about"] if place["line"] else "it fits" for place in places[MOST_PLACES:])
    if rest:
        say(f"others: {', '.join(f'{what} on {count}' for what, count in rest.most_common())}; --json names them")
