"""Images and crops from the bundled photographs, folders, shards and Hugging Face datasets.

`open_data` opens a source as a `DataSplit`: training images and held-out images, which have no content in
common, and the status of every file that was not used or was used with changes. `TrainingCrops` cuts training
batches, each a pure function of the seed and the step. `evaluation_crops` cuts the centre of every held-out
image.

Axes: B batch, H W rows and columns.
"""

from flatvq.data.crops import Batch, TrainingCrops
from flatvq.data.evaluated import NamedCrop, evaluation_crops, evenly_spread, whole_images
from flatvq.data.folder import open_folder
from flatvq.data.sources import open_data, open_images
from flatvq.data.splits import OpenedFolder
from flatvq.data.stand_in import load_image
from flatvq.data.types import DataSplit, FileStatus, ImageSet, Region, UnreadableImageError, fingerprint_of

__all__ = [
    "Batch",
    "DataSplit",
    "FileStatus",
    "ImageSet",
    "NamedCrop",
    "OpenedFolder",
    "Region",
    "TrainingCrops",
    "UnreadableImageError",
    "evaluation_crops",
    "evenly_spread",
    "fingerprint_of",
    "load_image",
    "open_data",
    "open_folder",
    "open_images",
    "whole_images",
]
