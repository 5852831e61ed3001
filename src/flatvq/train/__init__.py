"""Training: objective, loop, checkpoints; resumable to the very same bits."""

from flatvq.train.trial import run_trial

__all__ = ["run_trial"]
