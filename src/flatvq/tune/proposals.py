"""The sampler of a search. It is reproducible: a resumed search proposes what an uninterrupted one would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from flatvq.randomness import derived_seed

__all__ = ["Proposals"]


class Proposals(optuna.samplers.BaseSampler):
    """Proposes the incumbent's values in trial 0, and values from a Parzen estimator in all other trials.

    A draw depends on the seed, the number of the trial, the hyper-parameter and the finished trials. No
    random state is kept between draws.

    Args:
        first: the values of the incumbent. They are not enqueued in the storage, because two searches that
            share a database could both take them from there.
        seed: the seed of the search.
    """

    def __init__(self, first: Mapping[str, Any], seed: int) -> None:
        self.first, self.seed = first, seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the hyper-parameters that are drawn jointly; none in trial 0."""
        return {} if trial.number == 0 else self._estimator(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw values jointly."""
        return self._estimator(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value. In trial 0 it is the incumbent's, if the space contains that."""
        if trial.number == 0 and param_name in self.first:
            return self.first[param_name]
        estimator = self._estimator(trial, param_name)
        return estimator.sample_independent(study, trial, param_name, param_distribution)

    def _estimator(self, trial: FrozenTrial, *purpose: str) -> optuna.samplers.TPESampler:
        seed = derived_seed(self.seed, "tune", trial.number, *purpose) % 2**32
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=8, multivariate=True, constant_liar=True
        )
