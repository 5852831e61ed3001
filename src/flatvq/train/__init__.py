"""Training: objective, loop and checkpoints. A resumed training gives bit-identical weights."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatvq.train.trial import run_trial

__all__ = ["run_trial"]


def __getattr__(name: str) -> Any:
    """Import `run_trial` when it is used: modules such as `flatvq.train.lease` need no PyTorch."""
    if name != "run_trial":
        raise AttributeError(name)
    from flatvq.train.trial import run_trial

    return run_trial
