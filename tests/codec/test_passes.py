from __future__ import annotations

import numpy as np
import pytest

from flatvq.codec.passes import PASSES, kind_of, numbers_of, passes


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 2), (8, 8), (9, 17), (33, 20)])
def test_each_cell_is_in_one_pass_and_its_neighbours_are_in_earlier_ones(height: int, width: int) -> None:
    order = np.full((height, width), -1)
    numbers = []
    for each in passes(height, width):
        numbers.append(each.number)
        assert (order[each.rows, each.columns] == -1).all()
        cells = list(zip(each.rows.tolist(), each.columns.tolist(), strict=True))
        assert cells == sorted(cells)
        if each.number:
            assert each.number in numbers_of(kind_of(each.number))
            assert each.kind == kind_of(each.number)
            everything = slice(None)
            for inside, rows, columns in each.neighbours(height, width, everything):
                assert (order[rows, columns] >= 0).all()
                distance = np.abs(rows - each.rows[inside]) + np.abs(columns - each.columns[inside])
                assert (distance == each.stride * (1 + (each.kind == 0))).all()
        order[each.rows, each.columns] = each.number
    assert numbers == list(range(PASSES))
    assert (order >= 0).all()
