"""The arrays of a table in prior.safetensors."""

from __future__ import annotations

import numpy as np

from flatvq.codec.arrays import Arrays, LevelArrays
from flatvq.codec.passes import PASSES
from flatvq.codec.prior import indices_per_cell
from flatvq.codec.table import GROUPS, MOST_CONTEXTS, SCALE, Table, TableLevel, largest_value
from flatvq.codec.weights import LARGEST_SUM, STRONGEST
from flatvq.recipe import LevelRecipe

__all__ = ["table_arrays", "table_level"]


def table_arrays(number: int, table: Table) -> Arrays:
    """Return the arrays of the table of a level.

    Args:
        number: the level, from 0.
        table: the table.
    """
    fields: Arrays = {
        "vectors": table.vectors.astype(np.int16),
        "centroids": table.centroids.astype(np.int32),
        "groups": table.groups.astype(np.uint8),
        "counts": table.marginal.astype(np.uint32),
        "level_strength": np.array([table.level_strength], np.uint32),
        "bounds": np.append(table.offsets[..., 0].ravel(), len(table.codes)).astype(np.uint32),
        "codes": table.codes.astype(np.uint16),
        "occurrences": table.counts.astype(np.uint32),
        "strengths": table.strengths.astype(np.uint32),
        "pass_strengths": table.pass_strengths.astype(np.uint32),
    }
    return {f"{number}.{name}": np.ascontiguousarray(array) for name, array in fields.items()}


def table_level(level: LevelRecipe, fields: LevelArrays) -> TableLevel:
    """Build the prior of a level from its arrays.

    Raises:
        FlatvqError: if an array is missing, or does not fit the level.
    """
    stages, size, dim = indices_per_cell(level), level.codebook_size, level.code_dim
    largest = largest_value(stages, dim)
    vectors = fields.take("vectors", "int16", (stages, size, dim), -largest, largest)
    farthest = 2 * SCALE * stages * largest
    centroids = fields.take("centroids", "int32", (2, stages, None, dim), -farthest, farthest)
    contexts = centroids.shape[2]
    codes = fields.take("codes", "uint16", (None,), high=size - 1)
    bounds = fields.take("bounds", "uint32", ((PASSES - 1) * stages * contexts + 1,), high=len(codes))
    occurrences = fields.take("occurrences", "uint32", (len(codes),), low=1)
    known = 0 < contexts <= MOST_CONTEXTS and not (np.diff(bounds) < 0).any()
    if not known or int(occurrences.sum()) > LARGEST_SUM:
        raise fields.error("tables that do not fit together")
    return TableLevel(
        Table(
            vectors=vectors,
            centroids=centroids,
            groups=fields.take("groups", "uint8", (2, stages, contexts), high=GROUPS - 1),
            marginal=fields.take("counts", "uint32", (stages, size)),
            offsets=np.stack([bounds[:-1], bounds[1:]], axis=1).reshape(PASSES - 1, stages, contexts, 2),
            codes=codes,
            counts=occurrences,
            strengths=fields.take("strengths", "uint32", (2, stages, 2), low=1, high=STRONGEST - 1),
            pass_strengths=fields.take("pass_strengths", "uint32", (PASSES - 1, stages), low=1),
            level_strength=int(fields.take("level_strength", "uint32", (1,), low=1)[0]),
        )
    )
