"""What takes the place of inactive codes: different rows of the batch, by a draw of the seed and step."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatvq.quantize.distributed import Ranks
from flatvq.quantize.replacement import draw_replacements


def rows(tensor):
    return [tuple(row) for row in tensor.tolist()]


def draw(vectors, count, seed, step):
    return draw_replacements(vectors, count, seed, step, Ranks(), [len(vectors)])


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 30), total=st.integers(1, 30), reach=st.integers(0, 40), step=st.integers(0, 9))
def test_replacements_are_different_rows_drawn_without_replacement(count, total, reach, step):
    generator = torch.Generator().manual_seed(step)
    vectors = torch.randint(-reach, reach + 1, (total, 1), generator=generator).float()
    fresh = rows(draw(vectors, count, seed=0, step=step))
    assert len(fresh) <= count
    assert len(set(fresh)) == len(fresh)
    assert set(fresh) <= set(rows(vectors)) - {(0.0,)}
    distinct = torch.arange(1.0, total + 1)[:, None]
    assert len(draw(distinct, count, seed=0, step=step)) == min(count, total)


def test_replacements_differ_from_step_to_step_and_come_from_everywhere():
    vectors = torch.arange(1.0, 101.0)[:, None]
    draws = [tuple(draw(vectors, 10, seed=0, step=step).flatten().tolist()) for step in range(100)]
    assert len(set(draws)) == 100
    # Each of 100 vectors misses 100 draws of 10 with probability 0.9^100 < 3e-5.
    assert {value for draw in draws for value in draw} == set(vectors.flatten().tolist())
    assert draws[3] == tuple(draw(vectors, 10, seed=0, step=3).flatten().tolist())
    assert draws[3] != tuple(draw(vectors, 10, seed=1, step=3).flatten().tolist())
