"""Records of before 0.2, which the history keeps for `history_days`, are read like new ones."""

from autoscaler.cli.explain.past import _row, _sentences


def test_a_row_of_blocked_that_had_both_in_one_field() -> None:
    old = {"subject": "worker-1", "reason": "local_volume: 2 volumes: a and b live on it"}
    new = {"subject": "worker-1", "code": "local_volume", "text": "2 volumes: a and b live on it"}
    assert _row(old) == _row(new)
    assert "local_volume: 2 volumes: a and b live on it" in _row(old)


def test_what_was_done_by_its_old_name() -> None:
    assert _sentences({"events": ["a"], "failures": ["b"]}) == _sentences({"done": ["a"], "failures": ["b"]})
