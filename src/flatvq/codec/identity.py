"""The hash that identifies the tokenizer of a compressed file."""

from __future__ import annotations

import torch

from flatvq.model import VQVAE
from flatvq.model.weights import inference_tensors
from flatvq.quantize import Codebook
from flatvq.tokenizers.identity import identity_of

__all__ = ["tokenizer_digest"]


def tokenizer_digest(model: VQVAE) -> bytes:
    """Return the SHA-256 of everything that decides how indices are decoded.

    It covers the recipe of the model without keys at their default, whether code vectors are scaled to unit
    length, and the tensors that inference reads. Unlike `Tokenizer.id`, it does not cover the preprocessing,
    which may come from the records of a run. Otherwise a file would become unreadable when its tokenizer is
    copied out of the folder of the run.

    Args:
        model: the tokenizer, on any device.
    """
    two = torch.full((1, 1), 2.0)
    codebooks = [module for module in model.modules() if isinstance(module, Codebook)]
    config = {
        "recipe": model.recipe.model_dump(mode="json", exclude_defaults=True),
        "unit_length": [bool(codebook.constrain(two) == 1) for codebook in codebooks],
    }
    return bytes.fromhex(identity_of(config, inference_tensors(model)))
