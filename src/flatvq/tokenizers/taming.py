"""Reads VQGAN checkpoints of taming-transformers as configuration and weights of diffusers' `VQModel`.

Esser et al. (2021), Taming Transformers for High-Resolution Image Synthesis, arXiv 2012.09841. Both libraries
compute the same layers, and name them differently.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.regular import read_regular, require_regular

__all__ = ["read", "translated"]

_CHECKPOINTS = ("*.ckpt", "*.pt", "*.pth")
_MOST_CONFIG = 2**20
# Patterns of taming-transformers, and names of diffusers. `{level}` counts from the image in both encoders,
# and from the grid in the decoder of diffusers.
_BLOCKS = (
    (r"(encoder)\.down\.(\d+)\.block\.(\d+)\.", r"\1.down_blocks.{level}.resnets.\3."),
    (r"(encoder)\.down\.(\d+)\.attn\.(\d+)\.", r"\1.down_blocks.{level}.attentions.\3."),
    (r"(encoder)\.down\.(\d+)\.downsample\.conv\.", r"\1.down_blocks.{level}.downsamplers.0.conv."),
    (r"(decoder)\.up\.(\d+)\.block\.(\d+)\.", r"\1.up_blocks.{level}.resnets.\3."),
    (r"(decoder)\.up\.(\d+)\.attn\.(\d+)\.", r"\1.up_blocks.{level}.attentions.\3."),
    (r"(decoder)\.up\.(\d+)\.upsample\.conv\.", r"\1.up_blocks.{level}.upsamplers.0.conv."),
)
_MIDDLE = {
    "mid.block_1.": "mid_block.resnets.0.",
    "mid.block_2.": "mid_block.resnets.1.",
    "mid.attn_1.": "mid_block.attentions.0.",
    "norm_out.": "conv_norm_out.",
}
_IN_ATTENTION = {
    "norm.": "group_norm.",
    "q.": "to_q.",
    "k.": "to_k.",
    "v.": "to_v.",
    "proj_out.": "to_out.0.",
}


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a VQGAN.

    Args:
        folder: a folder with one .yaml file and one checkpoint, also in sub-folders such as `configs` and
            `checkpoints`.

    Returns:
        The arguments of `diffusers.VQModel`, and its state dict.

    Raises:
        FlatvqError: if a file is missing, damaged, or contains more than tensors.
    """
    text = _only(folder, ("*.yaml", "*.yml"), "configuration")
    config = _config(text)
    return config, translated(
        _weights(_only(folder, _CHECKPOINTS, "checkpoint")), len(config["block_out_channels"])
    )


def translated(weights: dict[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Rename the weights of a VQGAN to the names in diffusers. Weights of the loss are left out.

    Args:
        weights: the state dict of taming-transformers.
        levels: the number of resolutions.

    Example:
        >>> list(translated({"decoder.up.0.attn.1.q.weight": torch.zeros(4, 4, 1, 1)}, levels=3))
        ['decoder.up_blocks.2.attentions.1.to_q.weight']
    """
    result = {}
    for name, weight in weights.items():
        if not name.startswith("loss."):
            new = _renamed(name, levels)
            # Attention multiplies matrices, which taming-transformers writes as 1 x 1 convolutions.
            is_matrix = ".attentions." in new and weight.ndim == 4
            result[new] = weight[:, :, 0, 0] if is_matrix else weight
    return result


def _renamed(name: str, levels: int) -> str:
    for pattern, replacement in _BLOCKS:
        if match := re.match(pattern, name):
            level = int(match[2]) if match[1] == "encoder" else levels - 1 - int(match[2])
            name = match.expand(replacement.replace("{level}", str(level))) + name[match.end() :]
            break
    for old, new in _MIDDLE.items():
        name = re.sub(rf"^(encoder|decoder)\.{re.escape(old)}", rf"\1.{new}", name)
    if ".attentions." in name:
        head, _, last = name.rpartition(".attentions.")
        number, _, rest = last.partition(".")
        for old, new in _IN_ATTENTION.items():
            if rest.startswith(old):
                rest = new + rest.removeprefix(old)
                break
        return f"{head}.attentions.{number}.{rest}"
    return name.replace(".nin_shortcut.", ".conv_shortcut.")


def _config(path: Path) -> dict[str, Any]:
    """Return the arguments of `VQModel` for a configuration of taming-transformers."""
    try:
        params = yaml.safe_load(read_regular(path, _MOST_CONFIG).decode())["model"]["params"]
        layers = params["ddconfig"]
        channels = [layers["ch"] * multiplier for multiplier in layers["ch_mult"]]
        attends = [
            layers["resolution"] // 2**level in layers["attn_resolutions"] for level in range(len(channels))
        ]
        return {
            "in_channels": layers["in_channels"],
            "out_channels": layers["out_ch"],
            "block_out_channels": tuple(channels),
            "layers_per_block": layers["num_res_blocks"],
            "down_block_types": tuple(f"{'Attn' * each}DownEncoderBlock2D" for each in attends),
            "up_block_types": tuple(f"{'Attn' * each}UpDecoderBlock2D" for each in reversed(attends)),
            "latent_channels": layers["z_channels"],
            "sample_size": layers["resolution"],
            "num_vq_embeddings": params["n_embed"],
            "vq_embed_dim": params["embed_dim"],
        }
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError) as error:
        what = f"'{path}' is not the configuration of a VQGAN ({type(error).__name__}: {error})"
        raise FlatvqError(
            what, "give a configuration of taming-transformers, with model.params.ddconfig"
        ) from None


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        require_regular(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FlatvqError:
        raise
    except Exception as error:  # pickle.UnpicklingError and others
        reason = (str(error).splitlines() or [""])[0][:120]
        what = f"'{path}' cannot be read as weights alone ({type(error).__name__}: {reason})"
        raise FlatvqError(what, "save its state_dict alone, with torch.save, where it was trained") from None
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise FlatvqError(f"'{path}' holds no state_dict", "give the checkpoint of a VQGAN")
    return weights


def _only(folder: Path, patterns: tuple[str, ...], what: str) -> Path:
    """Return the only file of a kind."""
    files = sorted(path for pattern in patterns for path in folder.rglob(pattern))
    if len(files) != 1:
        names = ", ".join(patterns)
        raise FlatvqError(
            f"'{folder}' holds {len(files)} files {names}, not one {what}", "give its folder alone"
        )
    return files[0]
