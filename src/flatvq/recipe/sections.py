"""The sections of a recipe besides `data`: model, codebook, train, evaluate.

Each class is one section of the YAML file. The docstring of a field is its documentation, which
`flatvq recipes --fields` prints.
"""

from __future__ import annotations

from decimal import Decimal
from math import log2, prod
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flatvq.errors import UnknownNameError, suggestion
from flatvq.recipe.extensions import HIERARCHIES
from flatvq.recipe.quantizers import QUANTIZERS
from flatvq.recipe.reading import shown
from flatvq.recipe.renamed import CODEBOOK_KEYS, current_keys
from flatvq.recipe.section import LAST_STEP, LONGEST_SIDE, MOST_LEVELS, NameIn, Section

__all__ = [
    "CodebookRecipe",
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
"""Measures against codebook collapse: none, initialization from data only, dead-code replacement only, or
both."""


class LevelRecipe(Section):
    """One level: its grid, its codebook, and its own settings of the training."""

    downsample: int = Field(4, ge=2, le=1024)
    """Factor between this level's grid and the grid below it, or the image for the first level. A power of
    two."""
    codebook_size: int = Field(1024, ge=1)
    """K, the number of codes."""
    code_dim: int = Field(64, ge=1, le=LONGEST_SIDE)
    """D, the dimension of a code."""
    quantizer: Annotated[str, NameIn(QUANTIZERS)] = "vector"
    """`vector`: a codebook; `residual`: `stages` codebooks in a row, each for the residual of the previous
    ones; `scalar`: finite scalar quantization (FSQ) with `scalar_levels`; `lookup-free`: the signs of D
    coordinates (LFQ), so that K is 2 to the power of D."""
    scalar_levels: tuple[Annotated[int, Field(le=LONGEST_SIDE)], ...] = ()
    """Levels of finite scalar quantization (FSQ), such as [8, 5, 5]; they imply `quantizer: scalar`. K is the
    product of the numbers and D is their count."""
    stages: int = Field(1, ge=1, le=64)
    """Number of codebooks of `residual`, and of indices in each cell of the grid."""
    options: dict[str, Any] = Field({})
    """Options of a quantizer that another package adds."""
    width: int | None = Field(None, ge=2, le=LONGEST_SIDE, multiple_of=2)
    """Channels of the encoder of this level, and of the decoder of this level if it has one; null:
    `model.width`."""
    commitment_weight: float | None = Field(None, ge=0, le=1_000_000)
    """Weight (beta) of the commitment loss of this level; null: `train.commitment_weight`."""
    start: int = Field(0, ge=0, le=LAST_STEP)
    """Training step at which the level starts. Before it, the decoder receives zeros in place of its code
    vectors, and nothing of the level is trained. Its codebook is initialized when it starts."""
    warmup_steps: int = Field(0, ge=0, le=LAST_STEP)
    """Steps after `start` in which a factor of the level's code vectors rises linearly to 1."""

    @property
    def has_codebook(self) -> bool:
        """Whether code vectors are learned."""
        return self.codebook_parameters > 0

    @property
    def codebook_parameters(self) -> int:
        """Number of values in all code vectors, such as K x D."""
        return QUANTIZERS[self.quantizer].codebook_parameters(self)

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Axes of the indices of one cell: () for one index, such as (`stages`,) for several."""
        return QUANTIZERS[self.quantizer].index_shape(self)

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
        allowed = QUANTIZERS[self.quantizer].options
        for name in self.options.keys() - set(allowed):
            remedy = suggestion(name, allowed) if allowed else "it takes no options"
            raise UnknownNameError(f"options.{name} is unknown for quantizer={self.quantizer}", remedy)
        return self

    @model_validator(mode="after")
    def _sizes_are_valid(self) -> Self:
        if self.downsample & (self.downsample - 1):
            raise ValueError(f"downsample must be a power of two, not {self.downsample}")
        if any(level < 2 for level in self.scalar_levels):
            raise ValueError(f"scalar_levels must each be at least 2, not {shown(list(self.scalar_levels))}")
        for key, value in QUANTIZERS[self.quantizer].implied_keys(self).items():
            object.__setattr__(self, key, value)
        if self.codebook_size >= 2**63:
            codes = f"{Decimal(self.codebook_size):.3g} codes"
            raise ValueError(f"{codes} are more than 64-bit indices can count")
        return self


class ModelRecipe(Section):
    """The autoencoder: a single-level model has one level, a hierarchy has several."""

    levels: tuple[LevelRecipe, ...] = Field((LevelRecipe(),), min_length=1, max_length=MOST_LEVELS)
    """The levels, from the bottom (the finest grid) to the top."""
    hierarchy: Annotated[str, NameIn(HIERARCHIES)] = "parallel"
    """`parallel`: each level is quantized independently of the others. `conditioned`: each level is quantized
    given the decoded levels above it, as in VQ-VAE-2. `residual`: each level quantizes the difference between
    its latents and the upsampled sum of the levels above it, and the decoder takes the sum of all levels."""
    channels: Literal[1, 3] = 3
    """Image channels. 3: colour. 1: greyscale; colour images are converted to luma."""
    width: int = Field(128, ge=2, le=LONGEST_SIDE, multiple_of=2)
    """Channels of the encoders and the decoders, except for levels with a `width` of their own."""
    residual_width: int = Field(64, ge=1, le=LONGEST_SIDE)
    """Hidden channels of a residual block."""
    residual_blocks: int = Field(2, ge=0, le=1000)
    """Residual blocks per encoder and per decoder."""

    @model_validator(mode="after")
    def _one_level_starts_at_once(self) -> Self:
        if all(level.start for level in self.levels):
            first = min(level.start for level in self.levels)
            raise ValueError(f"no level starts before step {first}, set start=0 for one of the levels,")
        return self


class InitRecipe(Section):
    """Initialization of a codebook."""

    kind: Literal["random", "data", "kmeans"] = "kmeans"
    """`random`: samples of `distribution`, independent of the data. `data`: encoder outputs of the first
    batches. `kmeans`: k-means (k-means++ and Lloyd's iterations) on these outputs."""
    distribution: Literal["normal", "uniform", "kaiming"] = "normal"
    """Used with `kind: random`. `normal`: standard normal. `uniform`: uniform in [-1/K, 1/K]. `kaiming`:
    Kaiming uniform."""
    vectors_per_code: int = Field(8, ge=1, le=1_000_000)
    """Used with `kind: data` and `kind: kmeans`: number of encoder outputs to collect per code before the
    codes are drawn. The training must be long enough for it."""
    start: float = Field(0.0, ge=0, lt=1)
    """Used with `kind: data` and `kind: kmeans`: when outputs are first collected, as a share of
    `train.steps`. Until then, each batch is quantized to codes drawn from it. With a start of 0.1 or 0.2, the
    final codes are drawn from the outputs of a partly trained encoder."""


class UpdateRecipe(Section):
    """How the code vectors are updated after each training step."""

    kind: Literal["ema", "gradient"] = "ema"
    """`ema`: exponential moving averages of the counts and sums of assigned encoder outputs. `gradient`:
    gradient descent on the codebook loss."""
    decay: float = Field(0.99, gt=0, lt=1)
    """Decay per step of the moving averages; used with `kind: ema`."""


class ReplacementRecipe(Section):
    """Dead-code replacement: inactive codes are replaced by encoder outputs of the current batch."""

    every: int = Field(50, ge=1, le=LAST_STEP)
    """Steps between two replacement events."""
    start: int = Field(0, ge=0, le=LAST_STEP)
    """First step at which an event may happen."""
    stop: float = Field(0.8, gt=0, le=1)
    """Share of the training steps after which no event happens, so that the codes settle. In Python,
    `DeadCodeReplacement(stop=...)` is a step: this share times `train.steps`."""
    fraction: float = Field(0.1, gt=0, le=1_000_000)
    """A code is inactive if its EMA count is below this fraction of uniform use, which is the number of
    vectors per step divided by K."""
    count: float | None = Field(None, gt=0, le=1e9)
    """If set, it replaces `fraction`: a code is inactive if its EMA count is below this number of vectors per
    step. `count: 2` with `every: 1` is the policy of Reyhanian & Wiskott (arXiv 2601.22244)."""
    share: float = Field(1.0, gt=0, le=1)
    """Largest share of the codebook that one event replaces."""
    grace: int = Field(0, ge=0, le=LAST_STEP)
    """Steps after its initialization or replacement during which a code is not replaced."""


class CodebookRecipe(Section):
    """Initialization, training and search of the codebooks; the same for all levels."""

    init: InitRecipe = InitRecipe()
    """How the first codes are chosen."""
    update: UpdateRecipe = UpdateRecipe()
    """How the codes are trained."""
    replacement: ReplacementRecipe | None = ReplacementRecipe()
    """Replacement of inactive codes; null: none."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance of the nearest-code search."""
    estimator: Literal["straight-through", "rotation"] = "straight-through"
    """How gradients pass through the quantizer: the straight-through estimator, or the rotation trick."""

    @model_validator(mode="before")
    @classmethod
    def _with_current_keys(cls, tree: Any) -> Any:
        return current_keys(tree, CODEBOOK_KEYS)

    @property
    def treatment(self) -> Treatment:
        """The measures against codebook collapse in this section."""
        from_data, replacement = self.init.kind != "random", self.replacement is not None
        if from_data and replacement:
            return "healthy"
        return "init" if from_data else "replacement" if replacement else "naive"


class TrainRecipe(Section):
    """Optimization, precision, and what a run writes."""

    parent: str = ""
    """The tokenizer whose weights the training starts from, for fine-tuning: a folder, a pretrained tokenizer
    such as `flatvq-f4`, or a repository on the Hugging Face hub. The recipe must have the same model. Empty:
    random weights."""
    steps: int = Field(1000, ge=1, le=LAST_STEP)
    """Number of optimizer steps."""
    batch_size: int = Field(32, ge=1, le=1_000_000)
    """Crops per step, in total over all processes."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """The optimizer."""
    learning_rate: float = Field(3e-4, gt=0, le=1e30)
    """Peak learning rate."""
    weight_decay: float = Field(0.0, ge=0, le=1_000_000)
    """Decoupled weight decay; used with `optimizer: adamw`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up. `constant`: the peak. `cosine`: a cosine that reaches zero at the last
    step."""
    warmup_steps: int = Field(0, ge=0, le=LAST_STEP)
    """Steps in which the learning rate rises linearly to its peak."""
    commitment_weight: float = Field(0.25, ge=0, le=1_000_000)
    """Weight (beta) of the commitment loss, which is summed over the levels."""
    codebook_weight: float = Field(1.0, ge=0, le=1_000_000)
    """Weight of the codebook loss; used with `codebook.update.kind: gradient`."""
    entropy_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the entropy loss; used with `quantizer: lookup-free`."""
    clip_norm: float = Field(0.0, ge=0, le=1e30)
    """Largest gradient norm; larger gradients are scaled down. 0: no clipping."""
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    """`bfloat16`: autocast to bfloat16; codebooks and nearest-code search stay in float32. `auto`: bfloat16
    on processors that accelerate it, otherwise float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto`: CUDA if available, otherwise the CPU."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Whether `torch.compile` compiles the training step. `auto`: on a CPU, if the run is long enough to make
    up for the compile time."""
    validate_every: int = Field(100, ge=1, le=LAST_STEP)
    """Steps between two validations on held-out crops."""
    checkpoint_every: int = Field(200, ge=1, le=LAST_STEP)
    """Steps between two checkpoints."""
    record_every: int = Field(10, ge=1, le=LAST_STEP)
    """Steps between two records of the losses."""
    tensorboard: bool = False
    """Also write the records as TensorBoard events."""


class EvaluateRecipe(Section):
    """Evaluation during and after training."""

    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Images per forward pass."""
    validation_images: int = Field(64, ge=1, le=1_000_000_000)
    """Number of held-out crops, evenly spaced, in the validations during training. The final evaluation uses
    all held-out crops."""
    prior_images: int = Field(0, ge=0, le=1_000_000_000)
    """Number of training images, evenly spread. At the end of a trial, a prior is fitted to their centre
    crops, and the held-out crops are coded with it (`coded_bits_per_image`). 0: coded bits are not
    measured."""
    prior_kind: Literal["order-0", "table", "network"] = "table"
    """The kind of this prior, as in `flatvq prior --kind`. A network gives the fewest bits, and takes a
    minute or more per trial. A codebook that is too large for a table or a network has a prior of kind
    `order-0`."""
    text: bool = False
    """Also measure errors in rendered text (`text_error_rate`), as `flatvq evaluate --text` does. This needs
    `pip install 'flatvq[text]'`, and takes about a minute per trial."""
    detail: bool = False
    """Also measure the contrast of fine patterns (`contrast_kept`, `fine_contrast_kept`), as
    `flatvq evaluate --detail` does. The gratings have the size of the crops."""
    samples: int = Field(6, ge=0, le=100_000)
    """Number of held-out crops, evenly spaced, that are saved as PNG with their reconstructions."""
