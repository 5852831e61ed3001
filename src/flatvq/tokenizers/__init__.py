"""One protocol for the tokenizers of flatvq and of other libraries.

`protocol` defines the interface of every tokenizer. `vqvae` implements it for models of flatvq, `foreign` for
models of other libraries, and `loading` opens any of them. `pretrained` lists the tokenizers that the package
contains. `hub` shares tokenizers on the Hugging Face hub, with the model card of `card`.
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
