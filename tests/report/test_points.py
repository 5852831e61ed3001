"""Values over steps, out of records."""

from __future__ import annotations

from flatvq.report.points import last_of


def test_the_last_record_of_a_step_and_level_counts():
    rows = [
        {"kind": "revival", "step": 50, "level": 0, "revived": 1},
        {"kind": "revival", "step": 100, "level": 0, "revived": 2},
        {"kind": "train", "step": 50, "loss": 1.0},
        {"kind": "revival", "step": 50, "level": 1, "revived": 3},
        {"kind": "revival", "step": 50, "level": 0, "revived": 4},
        {"kind": "revival", "level": 0, "revived": 5},
    ]
    assert [row["revived"] for row in last_of(rows, "revival")] == [4, 3, 2]
