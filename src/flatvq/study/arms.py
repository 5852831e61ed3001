"""An arm of a study after matching."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flatvq.model.capacity import Capacity
from flatvq.recipe import Capacity as CapacityName
from flatvq.recipe import Treatment, TrialRecipe

__all__ = ["PlannedArm"]


@dataclass(frozen=True)
class PlannedArm:
    """An arm after matching."""

    name: str
    recipe: TrialRecipe
    """The resolved recipe, with the first seed of the study."""
    capacity: Capacity
    """The capacity for an image of the size of the crops."""
    changes: dict[str, tuple[int, int]]
    """The changes of the solver: old and new value by dotted key of the model."""
    residuals: dict[CapacityName, float]
    """Relative differences in capacity from the reference arm."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arm as `study.json` holds it, without its identity."""
        capacity = asdict(self.capacity)
        levels, others = capacity.pop("levels"), capacity.pop("others")
        return {
            "name": self.name,
            "levels": len(levels),
            "hierarchy": self.recipe.model.hierarchy,
            "treatment": self.treatment,
            "healthy": self.healthy,
            **capacity,
            **others,
            "level_table": levels,
        }

    @property
    def treatment(self) -> Treatment:
        """The measures against collapse. An arm without codebooks is `healthy`."""
        has_codebook = any(level.has_codebook for level in self.recipe.model.levels)
        return self.recipe.codebook.treatment if has_codebook else "healthy"

    @property
    def healthy(self) -> bool:
        """Whether the arm has both measures against collapse, or has no codebooks."""
        return self.treatment == "healthy"
