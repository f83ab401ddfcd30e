"""docs/metrics.md says what is: families, labels, what is recorded, alerts, and what kube-state-metrics has to show."""

import re

import pytest

from autoscaler.observe import series
from autoscaler.observe.query import sight_query
from tests.monitoring.programs import ROOT
from tests.monitoring.reads import ANNOTATIONS, KUBE, POLICY, RULES

TEXT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
SERIES = (ROOT / "autoscaler" / "observe" / "series.py").read_text(encoding="utf-8")
ANSWERS = {
    "The look": series.SIGHT_FAMILIES,
    "Rooms": series.ROOM_FAMILIES,
    "Moving": series.MOVING_FAMILIES,
    "Places": series.PLACE_FAMILIES,
    "History": series.HISTORY_FAMILIES,
    "Signals": series.SIGNAL_FAMILIES,
    "About": series.ABOUT_FAMILIES,
}


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[2]


def table(title: str) -> dict[str, list[str]]:
    """Rows by their first cell, without its backticks; the heading row is left out."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        for line in section(title).splitlines()
        if line.startswith("| `")
    ]
    found = {row[0].strip("`"): row[1:] for row in rows}
    assert len(found) == len(rows)
    assert len({len(row) for row in rows}) == 1
    return found


def comment(family: str) -> str:
    """What series.py says beside the family, on as many lines as it takes."""
    match = re.search(rf'^    "{family}",  # (.*(?:\n    # .*)*)', SERIES, re.MULTILINE)
    assert match, family
    return match[1]


def labels(text: str) -> set[str]:
    """Names in the braces of a comment, without their values."""
    inside = ",".join(re.findall(r"\{([^}]*)\}", text))
    return {name.strip().split("=")[0] for name in re.sub(r'"[^"]*"', "", inside).split(",") if name.strip()}


@pytest.mark.parametrize("title", ANSWERS)
def test_the_tables_name_exactly_the_families(title: str) -> None:
    assert tuple(table(title)) == ANSWERS[title]


@pytest.mark.parametrize(
    ("title", "family"), [(title, family) for title, families in ANSWERS.items() for family in families]
)
def test_the_tables_name_the_labels_of_the_contract(title: str, family: str) -> None:
    told, wanted = table(title)[family][0], comment(family)
    if title == "Moving" and family in {*series.SIGHT_FAMILIES, *series.ROOM_FAMILIES}:
        assert told.startswith("as in ")
    elif "every label" in wanted:
        assert told.startswith("every label")
    else:
        assert set(re.findall(r"`([a-z_*]+)`", re.sub(r"\([^)]*\)", "", told))) == labels(wanted)


def test_each_family_has_its_proof() -> None:
    """Of those that decide; a blank says that nothing is taken for granted without it."""
    for title, families in ANSWERS.items():
        for family in families:
            _, value, proof, _ = table(title)[family]
            assert value, family
            assert proof, family
            assert ("counted" in proof) >= (family in series.COUNTED), family


def test_what_is_shown_and_counted_is_explained() -> None:
    """Each proof that the look brings stands in some row."""
    text = section("The look")
    query = sight_query(POLICY, with_owners=True)
    shown = set(re.findall(r'"of", "(kube_\w+)"', query))
    explained = {"kube_persistentvolume_info", "kube_node_labels", "kube_node_spec_pod_cidrs"}
    assert explained <= shown
    assert all(f"`{name}`" in text for name in explained)
    assert set(re.findall(r'"of", "((?:node|pod)_?\w*)"', query)) == {*series.COUNTED, "node_unmeasured"}


def test_what_is_recorded_is_told() -> None:
    told = table("What is recorded, and why")
    recorded = {rule["record"]: rule for rule in RULES if "record" in rule}
    assert told.keys() == recorded.keys()
    assert {name.removeprefix(series.PREFIX) for name in told} == set(
        re.findall(r"`(\w+)`", SERIES.split("PREFIX: Final")[1].split('"""')[1])
    )
    for name, rule in recorded.items():
        cells = re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", told[name][0]))
        assert rule.get("labels", {}).keys() <= set(cells), name


def test_every_alert_is_explained_where_its_runbook_points() -> None:
    alerts = {rule["alert"]: rule for rule in RULES if "alert" in rule}
    told = table("The alerts")
    assert told.keys() == alerts.keys()
    for name, rule in alerts.items():
        assert told[name][1] == f"`{rule['labels']['scale']}`"
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{name.lower()}"
        assert section(name).strip()


def test_the_allow_list_is_what_is_read() -> None:
    """Every metric that a query or a rule names, and no other."""
    allowed = re.search(r"--metric-allowlist=(\S+)", TEXT)
    assert allowed
    assert set(allowed[1].split(",")) == KUBE


def test_the_annotations_that_are_read_are_on_the_allow_list() -> None:
    listed = re.search(r"--metric-annotations-allowlist=(\S+)", TEXT)
    assert listed
    names = {re.sub(r"\W", "_", name) for group in re.findall(r"\[([^\]]+)\]", listed[1]) for name in group.split(",")}
    assert names == ANNOTATIONS


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links
    assert links <= anchors
