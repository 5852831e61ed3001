"""The section `data` of a recipe."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from flatvq.credentials import holds_credentials, without_credentials
from flatvq.recipe.extensions import SOURCES
from flatvq.recipe.section import LONGEST_SIDE, NameIn, Section

__all__ = ["DataRecipe"]

_BUILT_IN = ("photographs", "folder", "huggingface", "shards")
# The keys that not all of these sources take, and the sources that take them.
_SOURCES_OF = {
    "path": ("folder", "huggingface", "shards"),
    "validation_path": ("folder", "huggingface", "shards"),
    "configuration": ("huggingface",),
    "split": ("huggingface",),
    "streaming": ("huggingface",),
    "image_column": ("huggingface", "shards"),
    "image_suffix": ("shards",),
}


class DataRecipe(Section):
    """The images, how they are split, and how crops are cut."""

    source: Annotated[str, NameIn(SOURCES)] = "photographs"
    """`photographs`: the photographs that come with scikit-image and scikit-learn. `folder`: a folder of
    images, including subfolders. `huggingface`: a dataset that Hugging Face `datasets` can read, local or
    from the hub. `shards`: tar files in the layout of WebDataset or parquet files, local or behind URLs."""
    path: str = ""
    """The image folder, the name or local path of a Hugging Face dataset, or the shards: a folder, or a
    pattern of files or URLs with `*` and braces, such as `s3://bucket/train-{000..127}.tar`. Relative paths
    start at the working directory."""
    configuration: str = ""
    """Configuration name, for a Hugging Face dataset that has several."""
    validation_path: str = ""
    """Folder or shards of the held-out images, or name of the held-out split of a Hugging Face dataset.
    Empty: hold out `validation_share` of the files of `path`."""
    split: str = "train"
    """Training split of a Hugging Face dataset."""
    image_column: str = "image"
    """Column of a Hugging Face dataset or of parquet shards that holds the images."""
    image_suffix: str = ""
    """Suffix of the members of tar shards that hold the images, such as `jpg` or `rgb.png`: everything after
    the first dot of the name. Empty: all members that are images."""
    streaming: bool = False
    """Stream a Hugging Face dataset instead of downloading it first."""
    limit: int = Field(0, ge=0)
    """Largest number of training images; 0: all. With `streaming`, it bounds the memory that a large dataset
    needs."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Share of the files that is held out from training. With `source: photographs`, the share of each
    photograph's longer side."""
    tuning_share: float = Field(0.0, ge=0, lt=1)
    """Share of the training images that takes the place of the held-out images; these are then not used.
    `flatvq tune` sets this key for its trials."""
    resize: int = Field(0, ge=0, le=LONGEST_SIDE)
    """Length in pixels to which the shorter side of every image is scaled first (bicubic). 0: no scaling."""
    white_level: int = Field(0, ge=0, le=65535)
    """The sample value that means white, in files with more than 8 bits per sample that do not state it. An
    example is 4095 for 12-bit samples stored in 16 bits. 0: the largest 16-bit value."""
    crop: int = Field(64, ge=16, le=LONGEST_SIDE)
    """Side in pixels of the square crops, for training and evaluation."""
    flip: bool = True
    """Mirror half of the training crops left to right."""
    max_unreadable: float = Field(0.5, ge=0, le=1)
    """Largest share of files that may be unreadable. With more, the study stops."""
    cache_mib: int = Field(2048, ge=0)
    """Memory in MiB for decoded images. Images that do not fit are decoded again each time."""
    shuffle_mib: int = Field(1024, ge=16, le=2**24)
    """Memory in MiB of a process for encoded images of `source: shards`. Images are shuffled in windows of
    three eighths of this memory. The order depends on it; more memory gives a more random order."""

    @model_validator(mode="after")
    def _source_takes_keys(self) -> Self:
        for key, sources in _SOURCES_OF.items():
            value = getattr(self, key)
            if value == type(self).model_fields[key].default:
                continue
            if isinstance(value, str) and holds_credentials(value):
                shown = without_credentials(value)
                raise ValueError(f"{key}={shown} holds credentials, which fsspec reads from its settings,")
            if self.source in _BUILT_IN and self.source not in sources:  # sources of other packages take any
                raise ValueError(f"{key}={value} needs source={_listed(sources)}, not {self.source},")
        return self


def _listed(sources: tuple[str, ...]) -> str:
    return " or ".join([", ".join(sources[:-1]), sources[-1]] if sources[1:] else sources)
