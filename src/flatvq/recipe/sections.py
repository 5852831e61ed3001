"""The sections of a recipe: data, model, codebook, train, evaluate.

Each class is one section of the YAML file; each field's docstring is its documentation, shown by
`flatvq recipes --fields`.
"""

from __future__ import annotations

from decimal import Decimal
from math import log2, prod
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flatvq.recipe.reading import shown
from flatvq.recipe.renamed import current_keys
from flatvq.recipe.section import LAST_STEP, LONGEST_SIDE, MOST_LEVELS, Section

__all__ = [
    "CodebookRecipe",
    "DataRecipe",
    "EvaluateRecipe",
    "InitRecipe",
    "LevelRecipe",
    "ModelRecipe",
    "ReplacementRecipe",
    "TrainRecipe",
    "Treatment",
    "UpdateRecipe",
]

Treatment = Literal["naive", "init", "replacement", "healthy"]
"""Measures against collapse: none, init from data alone, dead-code replacement alone, or both."""


class DataRecipe(Section):
    """Where the photographs come from and how crops are cut from them."""

    source: Literal["photographs", "folder", "huggingface"] = "photographs"
    """`photographs`: those that come with scikit-image and scikit-learn; `folder`: any folder of images,
    nested or not; `huggingface`: a local or hub dataset read through Hugging Face `datasets`."""
    path: str = ""
    """The folder, or the dataset's name or local path. Relative to where flatvq is run."""
    configuration: str = ""
    """The configuration of a Hugging Face dataset that has several."""
    validation_path: str = ""
    """A folder, or the name of a split, with the held-out images. Empty: hold out `validation_share` of
    the files of `path`."""
    split: str = "train"
    """The training split of a Hugging Face dataset."""
    image_column: str = "image"
    """The column of a Hugging Face dataset that holds the images."""
    streaming: bool = False
    """Read a Hugging Face dataset as a stream, without storing it first."""
    limit: int = Field(0, ge=0)
    """Use at most this many training images (0: all); for datasets larger than memory, with `streaming`."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Share of files (or of each bundled photograph's length) that is held out, never trained on."""
    tuning_share: float = Field(0.0, ge=0, lt=1)
    """Share of the training images that takes the place of the held-out ones, which nothing then looks at:
    `flatvq tune` chooses by them."""
    resize: int = Field(0, ge=0, le=LONGEST_SIDE)
    """Pixels of the shorter side to which every image is scaled first (bicubic); 0 keeps its own size."""
    white_level: int = Field(0, ge=0, le=65535)
    """The sample value of white in files of more than 8 bits a sample that do not state it, such as 4095 for
    12 bits stored in 16. 0: the largest value of 16 bits."""
    crop: int = Field(64, ge=16, le=LONGEST_SIDE)
    """Pixels of the side of the square crops that are trained on and evaluated."""
    flip: bool = True
    """Mirror half of the training crops left to right."""
    max_unreadable: float = Field(0.5, ge=0, le=1)
    """Largest share of files that may be unreadable before the study stops."""
    cache_mib: int = Field(2048, ge=0)
    """Decoded images are kept in memory up to this many MiB."""

    @model_validator(mode="after")
    def _path_has_a_source(self) -> Self:
        for key in ("path", "validation_path"):
            if (value := getattr(self, key)) and self.source == "photographs":
                raise ValueError(f"{key}={value} needs source=folder or huggingface, not {self.source},")
        if self.configuration and self.source != "huggingface":
            value = self.configuration
            raise ValueError(f"configuration={value} needs source=huggingface, not {self.source},")
        return self


class LevelRecipe(Section):
    """One level of codes: its grid and its codebook's shape."""

    downsample: int = Field(4, ge=2, le=1024)
    """Factor, a power of two, by which this level's grid is smaller than the one below it (for the first
    level: than the image)."""
    codebook_size: int = Field(1024, ge=1)
    """K, the number of codes."""
    code_dim: int = Field(64, ge=1, le=LONGEST_SIDE)
    """D, the dimension of a code."""
    quantizer: Literal["vector", "scalar", "lookup-free", "residual"] = "vector"
    """`vector`: a codebook; `residual`: `stages` codebooks in a row, each for the residual of the previous
    ones; `scalar`: finite scalar quantization (FSQ) with `scalar_levels`; `lookup-free`: the signs of D
    coordinates (LFQ), so that K is 2 to the power of D."""
    scalar_levels: tuple[Annotated[int, Field(le=LONGEST_SIDE)], ...] = ()
    """Number of values of each coordinate of `scalar`, which these levels imply; K is their product, D their
    number."""
    stages: int = Field(1, ge=1, le=64)
    """Number of codebooks of `residual`, and of indices in each cell of the grid."""

    @property
    def has_codebook(self) -> bool:
        """Whether code vectors are learned."""
        return self.quantizer in ("vector", "residual")

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Axes of the indices of one cell: () for one index, (`stages`,) for a residual quantizer."""
        return (self.stages,) if self.quantizer == "residual" else ()

    @property
    def bits_per_cell(self) -> float:
        """Nominal bits of one cell: the number of its indices times log2 K."""
        return prod(self.index_shape) * log2(self.codebook_size)

    @model_validator(mode="after")
    def _quantizer_has_its_keys(self) -> Self:
        if self.scalar_levels and self.quantizer == "vector":
            object.__setattr__(self, "quantizer", "scalar")
        if self.quantizer == "scalar" and not self.scalar_levels:
            raise ValueError("quantizer=scalar needs scalar_levels,")
        if self.quantizer != "scalar" and self.scalar_levels:
            levels = shown(list(self.scalar_levels))
            raise ValueError(f"scalar_levels={levels} needs quantizer=scalar, not {self.quantizer},")
        if self.stages > 1 and self.quantizer != "residual":
            raise ValueError(f"stages={self.stages} needs quantizer=residual, not {self.quantizer},")
        return self

    @model_validator(mode="after")
    def _codes_can_be_counted(self) -> Self:
        if self.downsample & (self.downsample - 1):
            raise ValueError(f"downsample must be a power of two, not {self.downsample}")
        if any(level < 2 for level in self.scalar_levels):
            raise ValueError(f"scalar_levels must each be at least 2, not {shown(list(self.scalar_levels))}")
        if self.scalar_levels:
            object.__setattr__(self, "codebook_size", prod(self.scalar_levels))
            object.__setattr__(self, "code_dim", len(self.scalar_levels))
        if self.quantizer == "lookup-free":
            if self.code_dim > 62:
                raise ValueError(f"code_dim is {self.code_dim}, and quantizer=lookup-free takes at most 62,")
            object.__setattr__(self, "codebook_size", 2**self.code_dim)
        if self.codebook_size >= 2**63:
            codes = f"{Decimal(self.codebook_size):.3g} codes"
            raise ValueError(f"{codes} are more than indices of 64 bits can count")
        return self


class ModelRecipe(Section):
    """The autoencoder. Its levels are a list: one for a single-level model, several for a hierarchy."""

    levels: tuple[LevelRecipe, ...] = Field((LevelRecipe(),), min_length=1, max_length=MOST_LEVELS)
    """From the bottom (the finest grid) to the top."""
    hierarchy: Literal["parallel", "conditioned"] = "parallel"
    """`conditioned`: each level sees the decoded levels above it, as in VQ-VAE-2; `parallel`: it does not."""
    channels: Literal[1, 3] = 3
    """Channels of the images: 3 for colour, 1 for greyscale (luma; colour images are converted)."""
    width: int = Field(128, ge=2, le=LONGEST_SIDE, multiple_of=2)
    """Channels of the encoder and decoder."""
    residual_width: int = Field(64, ge=1, le=LONGEST_SIDE)
    """Channels inside a residual block."""
    residual_blocks: int = Field(2, ge=0, le=1000)
    """Residual blocks per encoder and per decoder."""


class InitRecipe(Section):
    """How a codebook gets its first codes."""

    kind: Literal["random", "data", "kmeans"] = "kmeans"
    """`random`: from a distribution that knows nothing of the data; `data`: encoder outputs of the first
    batches; `kmeans`: k-means++ and Lloyd's iterations on those."""
    distribution: Literal["normal", "uniform", "kaiming"] = "normal"
    """For `random`: unit normal; uniform within 1/K; Kaiming uniform."""
    vectors_per_code: int = Field(8, ge=1, le=1_000_000)
    """For `data` and `kmeans`: gather this many encoder outputs per code before the final draw."""


class UpdateRecipe(Section):
    """How codes follow the encoder's outputs."""

    kind: Literal["ema", "gradient"] = "ema"
    """`ema`: exponential moving averages of counts and sums; `gradient`: the codebook loss."""
    decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the moving averages."""


class ReplacementRecipe(Section):
    """When inactive codes are replaced by encoder outputs of the current batch."""

    every: int = Field(50, ge=1, le=LAST_STEP)
    """Steps between two events."""
    start: int = Field(0, ge=0, le=LAST_STEP)
    """First step at which an event may happen; before the step at which replacement stops."""
    stop: float = Field(0.8, gt=0, le=1)
    """Share of the training after which no event happens any more, so that the last codes settle."""
    fraction: float = Field(0.1, gt=0, le=1_000_000)
    """A code is inactive when its EMA count is below this fraction of uniform use (vectors per step / K)."""
    count: float | None = Field(None, gt=0, le=1e9)
    """If given, a code is inactive below this many vectors per step instead, whatever the batch and K. With
    `every: 1`, 2 is the reference's policy."""
    share: float = Field(1.0, gt=0, le=1)
    """At most this share of the codebook is replaced in one event."""
    grace: int = Field(0, ge=0, le=LAST_STEP)
    """Steps for which a newborn, or a freshly initialized code, is left alone."""


class CodebookRecipe(Section):
    """What is done to every codebook of the model: the same on every level and in every arm that says so."""

    init: InitRecipe = InitRecipe()
    """How the first codes are chosen."""
    update: UpdateRecipe = UpdateRecipe()
    """How codes follow the data."""
    replacement: ReplacementRecipe | None = ReplacementRecipe()
    """Replacement of inactive codes; null for none."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance of the nearest-code search."""
    estimator: Literal["straight-through", "rotation"] = "straight-through"
    """How the gradient passes the quantizer."""

    @model_validator(mode="before")
    @classmethod
    def _with_current_keys(cls, tree: Any) -> Any:
        return current_keys(tree)

    @property
    def treatment(self) -> Treatment:
        """Measures against collapse: init from data, dead-code replacement, both or neither."""
        from_data, replacement = self.init.kind != "random", self.replacement is not None
        if from_data and replacement:
            return "healthy"
        return "init" if from_data else "replacement" if replacement else "naive"


class TrainRecipe(Section):
    """Optimisation."""

    steps: int = Field(1000, ge=1, le=LAST_STEP)
    """Optimiser steps."""
    batch_size: int = Field(32, ge=1, le=1_000_000)
    """Crops per step, over all processes."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """The optimiser."""
    learning_rate: float = Field(3e-4, gt=0, le=1e30)
    """Peak learning rate."""
    weight_decay: float = Field(0.0, ge=0, le=1_000_000)
    """Decoupled weight decay; with `adamw` only."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or a cosine to zero at the last step."""
    warmup_steps: int = Field(0, ge=0, le=LAST_STEP)
    """Steps over which the learning rate rises linearly to its peak."""
    commitment_weight: float = Field(0.25, ge=0, le=1_000_000)
    """Weight of the commitment loss (beta), summed over levels."""
    codebook_weight: float = Field(1.0, ge=0, le=1_000_000)
    """Weight of the codebook loss; it has an effect with `update.kind: gradient` only."""
    entropy_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the entropy loss; it has an effect with `quantizer: lookup-free` only."""
    clip_norm: float = Field(0.0, ge=0, le=1e30)
    """Largest norm of the gradient; 0 leaves it as it is."""
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    """`auto`: bfloat16 autocast where the processor is fast at it. Codebooks and search stay float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto`: CUDA if there is any, else the CPU."""
    compile: Literal["auto", "always", "never"] = "auto"
    """`torch.compile` for the training steps. `auto`: on a CPU, where the run is long enough to repay it."""
    validate_every: int = Field(100, ge=1, le=LAST_STEP)
    """Steps between two looks at the held-out crops."""
    checkpoint_every: int = Field(200, ge=1, le=LAST_STEP)
    """Steps between two checkpoints."""
    record_every: int = Field(10, ge=1, le=LAST_STEP)
    """Steps between two records of the losses."""
    tensorboard: bool = False
    """Write the records as TensorBoard events too."""


class EvaluateRecipe(Section):
    """What is measured at the end of a trial."""

    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Images per forward pass."""
    validation_images: int = Field(64, ge=1, le=1_000_000_000)
    """Held-out crops, evenly spread, that are looked at during training; the final evaluation takes all."""
    samples: int = Field(6, ge=0, le=100_000)
    """Held-out crops, evenly spread, that are kept as PNG beside their reconstructions."""
