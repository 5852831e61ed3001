"""Records that hold metrics or capacities. The registries decide which keys these records read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from flatvq.capacities import CAPACITIES
from flatvq.metrics import LEVEL_METRICS, TRIAL_METRICS, Metric
from flatvq.records.reading import Number, Record

__all__ = ["LevelMeasured", "Measured", "Sized", "TrialMeasured"]

Range = tuple[float, float]


class Measured(Record):
    """A record that reads registered keys in addition to its fields. Other keys are ignored."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | None]

    @classmethod
    def ranges(cls) -> dict[str, Range]:
        """Return the valid range of each registered key."""
        return {}

    def value(self, key: str) -> float | None:
        """Return the value of a metric or capacity; None if the record has none."""
        value: float | None = getattr(self, key, None)
        return value

    @model_validator(mode="before")
    @classmethod
    def _ignore_unknown_keys(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        known = cls.model_fields.keys() | cls.ranges()
        return {key: value for key, value in tree.items() if key in known}

    @model_validator(mode="after")
    def _values_in_range(self) -> Self:
        for key, (low, high) in self.ranges().items():
            value = self.value(key)
            if value is not None and not low <= value <= high:
                context = {"key": key, "low": f"{low:g}", "high": f"{high:g}"}
                raise PydanticCustomError("range", "input should be from {low} to {high}", context)
        return self


class _WithMetrics(Measured):
    registry: ClassVar[Mapping[str, Metric]] = {}

    @classmethod
    def ranges(cls) -> dict[str, Range]:
        return {key: (metric.minimum, metric.maximum) for key, metric in cls.registry.items()}


class TrialMeasured(_WithMetrics):
    """A record with values of `flatvq.metrics.TRIAL_METRICS`."""

    registry = TRIAL_METRICS


class LevelMeasured(_WithMetrics):
    """A record with values of `flatvq.metrics.LEVEL_METRICS`."""

    registry = LEVEL_METRICS


class Sized(Measured):
    """A record with the capacities of `flatvq.capacities.CAPACITIES` and their details."""

    @classmethod
    def ranges(cls) -> dict[str, Range]:
        """Return the valid range of each capacity and detail."""
        keys = [kind.attribute for kind in CAPACITIES.values()]
        keys += [kind.detail.attribute for kind in CAPACITIES.values() if kind.detail]
        return dict.fromkeys(keys, (0, 2**63))
