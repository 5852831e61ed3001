"""Eval mode of models that several threads use."""

from __future__ import annotations

from torch import nn

from flatvq.model.mode import eval_mode


def test_blocks_may_overlap() -> None:
    """As in two threads: the block that began first ends first."""
    module = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    first, second = eval_mode(module), eval_mode(module)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(part.training for part in module.modules())
    second.__exit__(None, None, None)
    assert [part.training for part in module.modules()] == [True, True, False]


def test_a_part_may_be_evaluated_inside_of_the_whole() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Dropout())
    with eval_mode(module):
        with eval_mode(module[0]):
            pass
        assert not module[0].training
    assert all(part.training for part in module.modules())
