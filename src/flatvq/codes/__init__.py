"""Codes of whole data sets: images to parquet shards, shards to PyTorch datasets, and shards to images.

`encoding` writes shards and a manifest, `dataset` reads them for training, and `decoding` writes images.
"""

from flatvq.codes.dataset import CodeDataset, Codes, CodeStream
from flatvq.codes.decoding import decode_codes
from flatvq.codes.encoding import encode_images
from flatvq.codes.manifest import CodeManifest

__all__ = ["CodeDataset", "CodeManifest", "CodeStream", "Codes", "decode_codes", "encode_images"]
