"""Images and crops: the bundled photographs, folders, Hugging Face datasets.

A source becomes a `DataSplit`: two sets of decoded images that share nothing, and the file of every file
that was not used as it is. `TrainingCrops` cuts batches from one of them, each a pure function of the seed
and the step; `evaluation_crops` takes the centre of every image of the other. Axes: B batch, H W rows and
columns.
"""

from flatvq.data.crops import Batch, NamedCrop, TrainingCrops, evaluation_crops, evenly_spread
from flatvq.data.folder import OpenedFolder, open_folder
from flatvq.data.sources import open_data
from flatvq.data.types import DataSplit, FileStatus, ImageSet, Region, Wanted, fingerprint_of, whole

__all__ = [
    "Batch",
    "DataSplit",
    "FileStatus",
    "ImageSet",
    "NamedCrop",
    "OpenedFolder",
    "Region",
    "TrainingCrops",
    "Wanted",
    "evaluation_crops",
    "evenly_spread",
    "fingerprint_of",
    "open_data",
    "open_folder",
    "whole",
]
