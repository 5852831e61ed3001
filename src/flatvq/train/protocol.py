"""The version of the training, so that a finished trial is not taken for what today's code would give."""

from __future__ import annotations

__all__ = ["TRAINING_PROTOCOL"]

TRAINING_PROTOCOL = 5
"""Raise it when the same recipe comes to train other weights."""
