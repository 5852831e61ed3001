"""Recipes: frozen, typed descriptions of studies and trials, read from YAML files.

Each class of this package is a section of a recipe. An unknown key is an error that suggests the closest
known key. The `arms` of a study are diffs against the other sections of the file.
"""

from flatvq.deprecation import renamed_exports
from flatvq.recipe.cluster import ClusterRecipe
from flatvq.recipe.comparisons import CurvesRecipe
from flatvq.recipe.data import DataRecipe
from flatvq.recipe.extensions import HIERARCHIES, SOURCES
from flatvq.recipe.files import (
    load_cluster,
    load_recipe,
    load_trial,
    recipe_text,
    shipped_recipes,
    with_cluster_of_user,
)
from flatvq.recipe.quantizers import QUANTIZERS, QuantizerKind
from flatvq.recipe.reading import merge, parse, set_key
from flatvq.recipe.sections import (
    CodebookRecipe,
    EvaluateRecipe,
    InitRecipe,
    LevelRecipe,
    ModelRecipe,
    ReplacementRecipe,
    TrainRecipe,
    Treatment,
    UpdateRecipe,
)
from flatvq.recipe.strict_yaml import dump_yaml
from flatvq.recipe.study import (
    ArmRecipe,
    Capacity,
    MatchRecipe,
    StudyRecipe,
    TrialRecipe,
)
from flatvq.recipe.tune import ParameterRange, TuneRecipe

__all__ = [
    "HIERARCHIES",
    "QUANTIZERS",
    "SOURCES",
    "ArmRecipe",
    "Capacity",
    "ClusterRecipe",
    "CodebookRecipe",
    "CurvesRecipe",
    "DataRecipe",
    "EvaluateRecipe",
    "InitRecipe",
    "LevelRecipe",
    "MatchRecipe",
    "ModelRecipe",
    "ParameterRange",
    "QuantizerKind",
    "ReplacementRecipe",
    "StudyRecipe",
    "TrainRecipe",
    "Treatment",
    "TrialRecipe",
    "TuneRecipe",
    "UpdateRecipe",
    "dump_yaml",
    "load_cluster",
    "load_recipe",
    "load_trial",
    "merge",
    "parse",
    "recipe_text",
    "set_key",
    "shipped_recipes",
    "with_cluster_of_user",
]

__getattr__ = renamed_exports(__name__, {"KnobRecipe": "ParameterRange"})
