"""flatvq: fair, healthy and certain comparisons of discrete image tokenizers (VQ-VAEs)."""

from flatvq import versions

__all__ = ["__version__"]

__version__ = versions.VERSION
