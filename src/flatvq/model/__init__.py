"""The autoencoder with any number of levels, its capacity, and saved tokenizers."""

from flatvq.model.build import build_vqvae
from flatvq.model.capacity import Capacity, LevelCapacity, capacity_of
from flatvq.model.matching import Matched, match, residuals
from flatvq.model.output import VQVAEOutput
from flatvq.model.tokenizer import load_tokenizer, save_tokenizer, tokenizer_folder
from flatvq.model.vqvae import VQVAE

__all__ = [
    "VQVAE",
    "Capacity",
    "LevelCapacity",
    "Matched",
    "VQVAEOutput",
    "build_vqvae",
    "capacity_of",
    "load_tokenizer",
    "match",
    "residuals",
    "save_tokenizer",
    "tokenizer_folder",
]
