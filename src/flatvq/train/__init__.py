"""Training: objective, loop and checkpoints. A resumed training gives bit-identical weights."""

from flatvq.train.trial import run_trial

__all__ = ["run_trial"]
