"""Settings out of range are refused by name and value, by every class that has some."""

import math
import re

import pytest

from flatvq.errors import FlatvqError
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    RandomInit,
    ResidualQuantizer,
    VectorQuantizer,
)

NOT_POSITIVE = [0.0, -1.0, math.nan, math.inf, "0.5", None]
NOT_WHOLE = [1.5, "1", math.nan, True, None]
SHARES = [*NOT_POSITIVE, 1.0, 2.0]

CASES = [
    *[(Ema, {"decay": value}) for value in SHARES],
    *[(Ema, {"epsilon": value}) for value in (-1.0, math.nan, math.inf)],
    *[(Gradient, {"decay": value}) for value in SHARES],
    *[(DeadCodeReplacement, {"every": value}) for value in (0, -1, *NOT_WHOLE)],
    *[(DeadCodeReplacement, {"start": value}) for value in (-1, *NOT_WHOLE)],
    *[(DeadCodeReplacement, {"stop": value}) for value in (-1, 1.5, math.nan)],
    *[(DeadCodeReplacement, {"grace": value}) for value in (-3, *NOT_WHOLE)],
    *[(DeadCodeReplacement, {"fraction": value}) for value in NOT_POSITIVE],
    *[(DeadCodeReplacement, {"share": value}) for value in (*NOT_POSITIVE, 1.5)],
    *[(DeadCodeReplacement, {"count": value}) for value in NOT_POSITIVE[:-1]],
    *[(DataInit, {"vectors_per_code": value}) for value in (0, *NOT_WHOLE)],
    *[(KMeansInit, {"vectors_per_code": value}) for value in (0, *NOT_WHOLE)],
    *[(KMeansInit, {"iterations": value}) for value in (-1, *NOT_WHOLE)],
    *[(RandomInit, {"distribution": value}) for value in ("gaussian", "", "Normal")],
]


@pytest.mark.parametrize(("kind", "setting"), CASES)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_refused(kind, setting):
    with pytest.raises(FlatvqError) as caught:
        kind(**setting)
    (value,) = setting.values()
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["codebook_size", "code_dim", "input_dim", "seed"])
@pytest.mark.parametrize("value", [-1, 2.5, "4", True])
@pytest.mark.usefixtures("unchecked")
def test_sizes_of_a_vector_quantizer_are_whole_numbers(name, value):
    arguments = {"codebook_size": 8, "code_dim": 4, name: value}
    with pytest.raises(FlatvqError, match=f"{name} is {value!r}"):
        VectorQuantizer(**arguments)


def test_settings_in_range_are_taken():
    DeadCodeReplacement(start=5, stop=6)
    Ema(decay=1e-9, epsilon=0.0)
    Gradient(decay=1 - 1e-9)
    DeadCodeReplacement(every=1, start=0, stop=0, fraction=1e-9, share=1.0, grace=0, count=1e9)
    KMeansInit(vectors_per_code=1, iterations=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("update", value) for value in ("ema", Ema, KMeansInit())],
        *[("init", value) for value in ("kmeans", KMeansInit, Ema())],
        *[("replacement", value) for value in (True, DeadCodeReplacement)],
        *[("estimator", value) for value in ("rotation", None)],
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_of_another_type_are_refused(name, value):
    given = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    for kind, sizes in ((VectorQuantizer, (8, 4)), (ResidualQuantizer, (8, 4, 2))):
        with pytest.raises(FlatvqError, match=re.escape(f"{name} is {given}: pass ")):
            kind(*sizes, **{name: value})
