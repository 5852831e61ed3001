"""Values over steps, from records."""

from __future__ import annotations

from flatvq.report.points import last_of


def test_the_last_record_of_a_step_and_level_is_used():
    rows = [
        {"kind": "replacement", "step": 50, "level": 0, "replaced": 1},
        {"kind": "replacement", "step": 100, "level": 0, "replaced": 2},
        {"kind": "train", "step": 50, "loss": 1.0},
        {"kind": "replacement", "step": 50, "level": 1, "replaced": 3},
        {"kind": "replacement", "step": 50, "level": 0, "replaced": 4},
        {"kind": "replacement", "level": 0, "replaced": 5},
    ]
    assert [row["replaced"] for row in last_of(rows, "replacement")] == [4, 3, 2]
