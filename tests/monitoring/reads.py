"""What the rules and the four queries read of Prometheus: manifests, scrapes and docs are held to this one list."""

import re

import yaml

from autoscaler.observe.query import moving_query, places_query, rooms_query, sight_query
from autoscaler.policy import Policy
from tests.monitoring.programs import ROOT

POLICY = Policy(version=1)
QUERIES = {
    "sight": sight_query(POLICY),
    "rooms": rooms_query(POLICY, ["a"], with_init=True, with_overhead=True),
    "moving": moving_query(POLICY, ["a"]),
    "places": places_query(POLICY, ["n/ReplicaSet/a", "n/Pod/b"]),
}
RULES = [
    rule
    for name in ("cluster.yml", "utilisation.yml")
    for rule in yaml.safe_load((ROOT / "monitoring" / "rules" / name).read_text(encoding="utf-8"))["groups"][0]["rules"]
]
EXPRESSIONS = (
    *QUERIES.values(),
    *(rule["expr"] for rule in RULES),
    *(text for rule in RULES for text in rule.get("annotations", {}).values()),
)


def _names() -> set[str]:
    """Names in front of a selector, and those that a selector by name lists; recorded ones have a colon."""
    found = set()
    for text in EXPRESSIONS:
        bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
        found |= set(re.findall(r"(?<![\w:])([a-z][\w:]*)(?=\{(?!\{))", bare))
        for listed in re.findall(r'__name__=~"([^"]*)"', text):
            found |= set(listed.split("|"))
    return found


NAMES = frozenset(_names())
KUBE = frozenset(name for name in NAMES if name.startswith("kube_") and not name.startswith("kube_state_metrics_"))
NODE = frozenset(name for name in NAMES if name.startswith("node_"))
RECORDED = frozenset(name for name in NAMES if ":" in name)
ANNOTATIONS = frozenset(name for text in EXPRESSIONS for name in re.findall(r"\bannotation_(\w+)", text))
