"""flatvq: fair, healthy and certain comparisons of discrete image tokenizers (VQ-VAEs)."""

__version__ = "0.1.0"
