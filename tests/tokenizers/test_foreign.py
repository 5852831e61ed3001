"""Tokenizers of other libraries, with random weights: indices and images are those of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import flatvq
from flatvq.errors import FlatvqError
from flatvq.tokenizers import open_tokenizer

from .taming_reference import VQModel as TamingModel

IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def near_ties(latents: Tensor, codes: Tensor, indices: Tensor, expected: Tensor) -> int:
    """Count other indices than the expected ones, after checking that float32 cannot tell both codes apart.

    Args:
        latents: [B, D, h, w].
        codes: [K, D].
        indices: [B, h, w], to check.
        expected: [B, h, w].
    """
    other = indices != expected
    vectors = latents.permute(0, 2, 3, 1)[other].double()
    distances = [(vectors - codes[chosen[other]].double()).square().sum(-1) for chosen in (indices, expected)]
    # Both libraries add terms of the size of |z|^2 + |e|^2 in float32.
    scale = vectors.square().sum(-1) + codes.double().square().sum(-1).max()
    assert bool(((distances[0] - distances[1]).abs() <= 1e-5 * scale).all())
    return int(other.sum())


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Return the indices of the nearest codes in float64."""
    vectors = latents.permute(0, 2, 3, 1).double()
    return (vectors[..., None, :] - codes.double()).square().sum(-1).argmin(-1)


@pytest.fixture
def vq_model() -> Any:
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers, of the extra foreign")
    torch.manual_seed(0)
    module = diffusers.VQModel(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=64,
        norm_num_groups=8,
        vq_embed_dim=3,
    )
    module.quantize.embedding.weight.data.normal_()
    return module.eval()


@pytest.mark.parametrize("lookup", [False, True])
def test_diffusers(vq_model: Any, tmp_path: Path, lookup: bool) -> None:
    vq_model.register_to_config(lookup_from_codebook=lookup)
    vq_model.save_pretrained(tmp_path / "model")
    tokenizer = open_tokenizer(f"diffusers:{tmp_path / 'model'}")
    assert isinstance(tokenizer, flatvq.Tokenizer)
    assert tokenizer.levels == (flatvq.TokenizerLevel(codebook_size=64, factor=2),)
    (indices,) = tokenizer.encode(IMAGES)
    assert indices.shape == (2, 16, 24)
    with torch.no_grad():
        latents = vq_model.encode(2 * IMAGES - 1).latents
        expected = vq_model(2 * IMAGES - 1).sample
        images = tokenizer.decode((indices,))
    codes = vq_model.quantize.embedding.weight.detach()
    assert near_ties(latents, codes, indices, nearest(latents, codes)) <= 2
    assert (2 * images - 1 - expected).abs().max() < 1e-4
    assert tokenizer.id == open_tokenizer(f"diffusers:{tmp_path / 'model'}").id
    with torch.no_grad():
        tokenizer.module.post_quant_conv.bias += 1
    assert tokenizer.id != open_tokenizer(f"diffusers:{tmp_path / 'model'}").id


def test_janus(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers, of the extra foreign")
    torch.manual_seed(0)
    config = transformers.JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=64,
        latent_channels=16,
        num_patches=4,
        base_channels=32,
        channel_multiplier=[1, 2],
        num_res_blocks=1,
    )
    module = transformers.JanusVQVAE(config)
    module.quantize.embedding.weight.data.normal_()
    module.save_pretrained(tmp_path / "model")
    tokenizer = open_tokenizer(f"janus:{tmp_path / 'model'}")
    assert tokenizer.levels == (flatvq.TokenizerLevel(codebook_size=64, factor=2),)
    assert tokenizer.preprocess == flatvq.Preprocess(resize=8, crop=8)
    # The grid of the configuration: the library decodes it too.
    small = IMAGES[:, :, :8, :8]
    (indices,) = tokenizer.encode(small)
    with torch.no_grad():
        output = module.encode(2 * small - 1)
        expected = module.decode(output.image_tokens.view(2, 16))
        images = tokenizer.decode([indices])
    latents = module.quant_conv(module.encoder(2 * small - 1)).detach()
    assert (
        near_ties(
            latents, module.quantize.embedding.weight.detach(), indices, output.image_tokens.view(2, 4, 4)
        )
        == 0
    )
    assert (2 * images - 1 - expected).abs().max() < 1e-4
    # Another grid.
    (indices,) = tokenizer.encode(IMAGES)
    assert indices.shape == (2, 16, 24)
    with torch.no_grad():
        images = tokenizer.decode([indices])
        codes = torch.nn.functional.normalize(module.quantize.embedding(indices), dim=-1).permute(0, 3, 1, 2)
        expected = module.decoder(module.post_quant_conv(codes))
    assert (2 * images - 1 - expected).abs().max() < 1e-4


TAMING = {"ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "z_channels": 8}


@pytest.fixture
def taming_folder(tmp_path: Path) -> tuple[TamingModel, Path]:
    """A VQGAN that attends at the lowest of three resolutions, as a training writes it."""
    pytest.importorskip("diffusers", reason="needs diffusers, of the extra foreign")
    torch.manual_seed(0)
    model = TamingModel(32, [1, 2, 2], 1, [False, False, True], z=8, codes=64, dim=6).eval()
    layers = {**TAMING, "resolution": 32, "attn_resolutions": [8], "in_channels": 3, "out_ch": 3}
    params = {"embed_dim": 6, "n_embed": 64, "ddconfig": layers}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "model.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    weights = {**model.state_dict(), "loss.discriminator.main.0.weight": torch.zeros(1)}
    torch.save({"state_dict": weights, "global_step": 7}, tmp_path / "last.ckpt")
    return model, tmp_path


@torch.no_grad()
def test_taming(taming_folder: tuple[TamingModel, Path]) -> None:
    model, folder = taming_folder
    tokenizer = open_tokenizer(f"taming:{folder}")
    assert tokenizer.factor == 4
    (indices,) = tokenizer.encode(IMAGES)
    latents, codes = model.latents(2 * IMAGES - 1), model.quantize.embedding.weight
    assert near_ties(latents, codes, indices, nearest(latents, codes)) <= 2
    assert (2 * tokenizer.decode([indices]) - 1 - model.decode(indices)).abs().max() < 1e-4


def test_a_taming_checkpoint_with_more_than_weights_is_refused(taming_folder: tuple[Any, Path]) -> None:
    model, folder = taming_folder
    torch.save({"state_dict": model.state_dict(), "callback": Path}, folder / "last.ckpt")
    with pytest.raises(FlatvqError, match=r"last\.ckpt' cannot be read as weights alone \(UnpicklingError"):
        open_tokenizer(f"taming:{folder}")


def test_a_taming_checkpoint_of_another_model_is_refused(taming_folder: tuple[Any, Path]) -> None:
    model, folder = taming_folder
    weights = model.state_dict()
    del weights["encoder.mid.attn_1.q.bias"]
    torch.save(weights, folder / "last.ckpt")
    with pytest.raises(FlatvqError, match=r"missing 'encoder\.mid_block\.attentions\.0\.to_q\.bias'"):
        open_tokenizer(f"taming:{folder}")
    (folder / "second.ckpt").write_bytes(b"")
    with pytest.raises(FlatvqError, match=r"holds 2 files .*, not one checkpoint"):
        open_tokenizer(f"taming:{folder}")
    (folder / "configs" / "model.yaml").write_text("model: {}")
    with pytest.raises(FlatvqError, match="is not the configuration of a VQGAN"):
        open_tokenizer(f"taming:{folder}")


FACTORY = """
import torch
import flatvq

class Rounding(flatvq.Tokenizer):
    levels = (flatvq.TokenizerLevel(codebook_size=256, factor=1),)
    preprocess = flatvq.Preprocess(crop=16, channels=1)
    def encode(self, images):
        return ((images[:, 0] * 255).round().long(),)
    def decode(self, indices):
        return indices[0][:, None] / 255
    def inference_tensors(self):
        return {}

def make():
    return Rounding()

def nothing():
    return object()

def failing():
    raise OSError("no weights")

def with_arguments(path):
    return Rounding()

def lazy():
    import my_other_module
    return my_other_module.make()

class Shapeless(Rounding):
    levels = ()

def shapeless():
    return Shapeless()

number = 3


def leaving():
    raise SystemExit(3)
"""


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rounding.py").write_text(FACTORY)
    tokenizer = open_tokenizer("python:my_rounding:make")
    grey = torch.randint(256, (1, 1, 16, 16)) / 255
    assert torch.allclose(tokenizer.decode(tokenizer.encode(grey)), grey)
    assert len(tokenizer.id) == 64
    with pytest.raises(FlatvqError, match="flatvq does not save tokenizers of type Rounding"):
        tokenizer.save_pretrained(tmp_path / "saved")
    for spec, what in (
        ("python:my_rounding", "'python:my_rounding' names no factory"),
        ("python:my_rounding:missing", "module 'my_rounding' has no function 'missing'"),
        ("python:my_rounding:number", "has no function 'number'"),
        ("python:my_rounding:nothing", "returns an object of type object: return an instance of"),
        (
            "python:my_rounding:failing",
            r"function of 'python:my_rounding:failing' failed \(OSError: no weigh",
        ),
        ("python:my_rounding:leaving", r"function of '.*:leaving' failed \(SystemExit: 3\)"),
        ("python:my_rounding:with_arguments", "missing 1 required .*called without arguments"),
        ("python:my_rounding:lazy", "ModuleNotFoundError: No module named 'my_other_module'"),
        ("python:my_rounding:shapeless", r"levels of 'python:my_rounding:shapeless' are \(\): describe each"),
    ):
        with pytest.raises(FlatvqError, match=what):
            open_tokenizer(spec)
    # A function may import modules of the working folder when it is called.
    (tmp_path / "my_other_module.py").write_text("from my_rounding import make")
    assert open_tokenizer("python:my_rounding:lazy").levels == tokenizer.levels


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="needs diffusers, of the extra foreign")
    with pytest.raises(FlatvqError, match=r"diffusers cannot load '.*nowhere' as VQModel") as error:
        open_tokenizer(f"diffusers:{tmp_path / 'nowhere'}")
    assert "\n" not in str(error.value)


def test_missing_weights_are_not_drawn_at_random(vq_model: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    vq_model.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["quantize.embedding.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(FlatvqError, match=r"quantize\.embedding\.weight"):
        open_tokenizer(f"diffusers:{tmp_path / 'model'}")
