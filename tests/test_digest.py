"""What a day's history says in a few lines."""

from datetime import UTC, datetime
from typing import Any

from autoscaler.digest import DAY_S, REASON, digest_document, digest_of, digest_text

END_S = 1_800_000_000
BEGIN_S = END_S - DAY_S


def record(hours_ago: float, **fields: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(END_S - hours_ago * 3600, UTC)
    known = {"action": "scale_up", "reason": "unschedulable_pods", "mode": "active", "failures": []}
    return {"decided_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), **known, **fields}


def cost(usd: float) -> dict[str, Any]:
    return {"cost": {"usd_per_hour": usd}}


DAY = [
    record(1, action="held_back", reason="at_max", nodes={"ready": 10}),
    record(6, failures=["a", "b"], nodes={"ready": 4}, **cost(0.5)),
    record(12, action="scale_down", reason="fits", nodes={"ready": None}, **cost(0.25)),
    record(18, **cost(1.0)),
    record(30, **cost(2.0)),
    record(31, action="repair", reason="not_ready"),
]


def test_a_day() -> None:
    digest = digest_of(DAY, cluster_id="shop", since_s=BEGIN_S, until_s=END_S)
    assert digest.done == {"scale_up": {"unschedulable_pods": 2}, "scale_down": {"fits": 1}}
    assert digest.refused == {"at_max": 1}
    assert digest.failures == 2
    assert digest.ready == (4, 10)
    # 6 hours at the price of the day before, 6 at 1.0, 6 at 0.25, 6 at 0.5.
    assert digest.usd == 6 * 2.0 + 6 * 1.0 + 6 * 0.25 + 6 * 0.5
    assert digest.usd_known_s == DAY_S
    text = digest_text(digest)
    assert text.splitlines()[0].startswith("shop: the last 24 hours, until 2027-01-15 08:00 UTC")
    assert "grown       2: unschedulable_pods 2\n" in text
    assert "repaired    none\n" in text
    assert "cost        $22.50\n" in text


def test_what_is_not_known_is_not_counted_and_said() -> None:
    digest = digest_of(DAY[:3], cluster_id="shop", since_s=BEGIN_S, until_s=END_S)
    assert digest.usd_known_s == DAY_S // 2
    assert "in the 12.0 hours that are known" in digest_text(digest)
    nothing = digest_of([{"decided_at": "?"}, {}], cluster_id="shop", since_s=BEGIN_S, until_s=END_S)
    assert nothing.usd is None
    assert nothing.ready is None
    assert "unknown: no recorded decision" in digest_text(nothing)


def test_what_observe_would_have_done_stands_apart() -> None:
    seen = [record(2, mode="observe"), record(3, mode="observe", action="scale_down", reason="fits")]
    digest = digest_of(seen, cluster_id="shop", since_s=BEGIN_S, until_s=END_S)
    assert digest.done == {}
    text = digest_text(digest)
    assert "grown       none\n" in text
    assert "observed    would have grown 1: unschedulable_pods 1\n" in text
    assert "observed    would have shrunk 1: fits 1\n" in text


def test_many_reasons_end_in_a_sum() -> None:
    many = [record(1, reason=f"r{n}") for n in range(9)]
    assert ", others 3\n" in digest_text(digest_of(many, cluster_id="shop", since_s=BEGIN_S, until_s=END_S))


def test_it_is_published_in_the_shape_of_a_decision() -> None:
    document = digest_document(digest_of(DAY, cluster_id="shop", since_s=BEGIN_S, until_s=END_S))
    assert (document["reason"], document["severity"], document["action"]) == (REASON, "info", "none")
    assert document["text"].startswith(document["message"])
    assert document["digest"]["refused"] == {"at_max": 1}
