"""Tokenizers as their users see them: one protocol for those of flatvq and of other libraries.

`protocol` defines what every tokenizer is. `vqvae` are those of flatvq, `foreign` wraps those of other
libraries, and `loading` opens any of them. `pretrained` are those of the package. `hub` shares tokenizers on
the Hugging Face hub, with the model card of `card`.
"""

from flatvq.tokenizers.loading import load, local_folder, open_tokenizer
from flatvq.tokenizers.pretrained import pretrained_names
from flatvq.tokenizers.protocol import Preprocess, Tokenizer, TokenizerLevel
from flatvq.tokenizers.vqvae import VQVAETokenizer

__all__ = [
    "Preprocess",
    "Tokenizer",
    "TokenizerLevel",
    "VQVAETokenizer",
    "load",
    "local_folder",
    "open_tokenizer",
    "pretrained_names",
]
