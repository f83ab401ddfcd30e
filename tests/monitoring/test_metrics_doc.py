"""docs/metrics.md says what the rules do: families, labels, alerts, and what kube-state-metrics has to show."""

import re

import yaml

from autoscaler.observe import series
from tests.monitoring.programs import ROOT

TEXT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
SERIES = (ROOT / "autoscaler" / "observe" / "series.py").read_text(encoding="utf-8")
RULES = [
    rule
    for name in ("cluster", "utilisation")
    for rule in yaml.safe_load((ROOT / "monitoring" / "rules" / f"{name}.yml").read_text(encoding="utf-8"))["groups"][
        0
    ]["rules"]
]


def section(title: str) -> str:
    """The text below a heading, up to the next one of its own depth or higher."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[2]


def table(title: str) -> dict[str, list[str]]:
    """Rows by their first cell, without its backticks; the heading row is left out."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section(title).splitlines()
        if line.startswith("| `")
    ]
    found = {row[0].strip("| `"): row[1:] for row in rows}
    assert len(found) == len(rows)
    return found


def families() -> dict[str, list[str]]:
    return {
        **table("From kube-state-metrics"),
        **table("From node-exporter"),
        **table("About the series themselves"),
    }


def test_the_tables_name_exactly_the_families() -> None:
    assert tuple(table("From kube-state-metrics")) == series.CLUSTER_FAMILIES
    assert tuple(table("From node-exporter")) == series.UTILISATION_FAMILIES
    assert tuple(table("About the series themselves")) == series.META_FAMILIES


def test_the_rules_record_exactly_the_families() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    assert recorded == {f"{series.PREFIX}{family}" for family in families()}


def test_the_tables_name_the_labels_of_the_contract() -> None:
    for family, cells in families().items():
        contract = re.search(rf'"{family}",  # \{{([^}}]*)\}}', SERIES)
        assert contract, family
        wanted = {label.split("=")[0].strip() for label in re.sub(r'"[^"]*"', "", contract[1]).split(",")}
        told = set(re.findall(r"`([a-z_*]+)`", re.sub(r"\([^)]*\)", "", cells[0])))
        assert told == wanted, family


def test_the_tables_say_which_families_are_never_empty() -> None:
    assert {family for family, cells in families().items() if cells[-1].startswith("never empty")} == series.NEVER_EMPTY


def test_every_alert_is_explained_where_its_runbook_points() -> None:
    alerts = {rule["alert"]: rule for rule in RULES if "alert" in rule}
    told = table("The alerts")
    assert told.keys() == alerts.keys()
    for name, rule in alerts.items():
        assert told[name][1] == f"`{rule['labels']['scale']}`"
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{name.lower()}"
        assert section(name).strip()


def test_the_allow_list_is_what_the_rules_read() -> None:
    """Every metric that a rule names and no other."""
    read = set(re.findall(r"\bkube_(?:node|pod|persistentvolume)_\w+", " ".join(rule["expr"] for rule in RULES)))
    allowed = re.search(r"--metric-allowlist=(\S+)", TEXT)
    assert allowed
    assert set(allowed[1].split(",")) == read
    assert "kube_pod_nodeselectors" in read


def test_the_annotations_that_the_rules_read_are_on_the_allow_list() -> None:
    read = set(re.findall(r"\bannotation_(\w+)", " ".join(rule["expr"] for rule in RULES)))
    listed = re.search(r"--metric-annotations-allowlist=(\S+)", TEXT)
    assert listed
    names = {re.sub(r"\W", "_", name) for group in re.findall(r"\[([^\]]+)\]", listed[1]) for name in group.split(",")}
    assert names == read


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links
    assert links <= anchors
