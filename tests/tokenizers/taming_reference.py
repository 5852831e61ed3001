"""The VQGAN of taming-transformers, with its names of modules (taming/modules/diffusionmodules/model.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Resnet(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2, self.conv2 = norm(outside), nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.nin_shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        for name in ("q", "k", "v", "proj_out"):
            setattr(self, name, nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (torch.einsum("bci,bcj->bij", q, k) * q.shape[1] ** -0.5).softmax(-1)
        return x + self.proj_out(torch.einsum("bcj,bij->bci", v, weights).view_as(x))


class Resampling(nn.Module):
    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=int(up))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0) if self.up else F.pad(x, (0, 1, 0, 1)))


def middle(channels: int) -> nn.Module:
    module = nn.Module()
    module.block_1, module.attn_1 = Resnet(channels, channels), Attention(channels)
    module.block_2 = Resnet(channels, channels)
    return module


def through_middle(mid: nn.Module, x: Tensor) -> Tensor:
    return mid.block_2(mid.attn_1(mid.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, ch: int, ch_mult: list[int], blocks: int, attends: list[bool], z: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        self.down = nn.ModuleList()
        inside = ch
        for level, multiplier in enumerate(ch_mult):
            down = nn.Module()
            down.block, down.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks):
                down.block.append(Resnet(inside, ch * multiplier))
                inside = ch * multiplier
                if attends[level]:
                    down.attn.append(Attention(inside))
            if level != len(ch_mult) - 1:
                down.downsample = Resampling(inside, up=False)
            self.down.append(down)
        self.mid, self.norm_out = middle(inside), norm(inside)
        self.conv_out = nn.Conv2d(inside, z, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for down in self.down:
            for number, block in enumerate(down.block):
                h = block(h)
                if len(down.attn):
                    h = down.attn[number](h)
            if hasattr(down, "downsample"):
                h = down.downsample(h)
        return self.conv_out(F.silu(self.norm_out(through_middle(self.mid, h))))


class Decoder(nn.Module):
    def __init__(self, ch: int, ch_mult: list[int], blocks: int, attends: list[bool], z: int) -> None:
        super().__init__()
        inside = ch * ch_mult[-1]
        self.conv_in, self.mid = nn.Conv2d(z, inside, 3, padding=1), middle(inside)
        ups = []
        for level in reversed(range(len(ch_mult))):
            up = nn.Module()
            up.block, up.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks + 1):
                up.block.append(Resnet(inside, ch * ch_mult[level]))
                inside = ch * ch_mult[level]
                if attends[level]:
                    up.attn.append(Attention(inside))
            if level != 0:
                up.upsample = Resampling(inside, up=True)
            ups.insert(0, up)
        self.up = nn.ModuleList(ups)
        self.norm_out, self.conv_out = norm(inside), nn.Conv2d(inside, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = through_middle(self.mid, self.conv_in(z))
        for up in reversed(self.up):
            for number, block in enumerate(up.block):
                h = block(h)
                if len(up.attn):
                    h = up.attn[number](h)
            if hasattr(up, "upsample"):
                h = up.upsample(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class VQModel(nn.Module):
    """Encodes images in [-1, 1] to indices, and decodes indices."""

    def __init__(
        self, ch: int, ch_mult: list[int], blocks: int, attends: list[bool], z: int, codes: int, dim: int
    ) -> None:
        super().__init__()
        self.encoder = Encoder(ch, ch_mult, blocks, attends, z)
        self.decoder = Decoder(ch, ch_mult, blocks, attends, z)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(codes, dim)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(z, dim, 1), nn.Conv2d(dim, z, 1)

    def latents(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))

    def decode(self, indices: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(self.quantize.embedding(indices).permute(0, 3, 1, 2)))
