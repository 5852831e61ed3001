"""Networks with the names and shapes of the published ones, and random weights."""

import warnings

import torch
from torch import nn

ALEXNET, HEADS, INCEPTION = "alexnet-owt-7be5be79.pth", "alex.pth", "inception-2015-12-05.pt"
CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def alexnet_state(seed=0):
    """Tensors with the names and shapes of torchvision's AlexNet, the classifier cut short."""
    generator = torch.Generator().manual_seed(seed)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for i, (out, inner, side) in CONVOLUTIONS.items():
        scale = (inner * side * side) ** -0.5
        state[f"features.{i}.weight"] = torch.randn(out, inner, side, side, generator=generator) * scale
        state[f"features.{i}.bias"] = torch.randn(out, generator=generator) * 0.1
    return state


def heads_state(seed=1):
    generator = torch.Generator().manual_seed(seed)
    widths = [out for out, _, _ in CONVOLUTIONS.values()]
    return {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for i, width in enumerate(widths)
    }


class TinyInception(nn.Module):
    """Follows the convention of the published network: uint8 in, 2048 features out if asked for."""

    def __init__(self, features: int = 2048):
        super().__init__()
        self.linear = nn.Linear(12, features)

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert img.dtype == torch.uint8
        pooled = nn.functional.adaptive_avg_pool2d(img.float(), [2, 2]).flatten(1)
        return self.linear(pooled / 128 - 1) if return_features else pooled


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
