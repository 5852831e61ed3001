"""What identifies a tokenizer: a hash of its recipe and of the tensors that inference reads."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch

from flatvq.model import VQVAE
from flatvq.quantize import Codebook

__all__ = ["tokenizer_digest"]


def tokenizer_digest(model: VQVAE) -> bytes:
    """Return the SHA-256 of a tokenizer.

    It covers, in JSON with sorted keys, the recipe of the model without keys at their default, and whether
    code vectors are scaled to unit length; and each parameter and buffer that inference reads: name, shape
    and little-endian float32 values, ordered by name. The training state of codebooks is left out.

    Args:
        model: the tokenizer, on any device.
    """
    two = torch.full((1, 1), 2.0)
    codebooks = [module for module in model.modules() if isinstance(module, Codebook)]
    config = {
        "model": model.recipe.model_dump(mode="json", exclude_defaults=True),
        "unit_length": [bool(codebook.constrain(two) == 1) for codebook in codebooks],
    }
    content = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        owner, _, attribute = name.rpartition(".")
        if isinstance(model.get_submodule(owner), Codebook) and attribute != "weight":
            continue
        values = np.ascontiguousarray(tensor.detach().float().cpu().numpy(), "<f4")
        content.update(json.dumps([name, list(tensor.shape)]).encode())
        content.update(values.tobytes())
    return content.digest()
