"""Typed recipes: everything that a study or a trial is, in one frozen tree.

A recipe file is YAML. Its sections are the classes of this package; a key that none of them knows is an
error that names the nearest known one. A study's `arms` are short diffs against the rest of the file.
"""

from flatvq.recipe.files import load_recipe, load_trial, recipe_text, shipped_recipes
from flatvq.recipe.reading import merge, parse, set_key
from flatvq.recipe.sections import (
    CodebookRecipe,
    DataRecipe,
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
    KnobRecipe,
    MatchRecipe,
    StudyRecipe,
    TrialRecipe,
    TuneRecipe,
)

__all__ = [
    "ArmRecipe",
    "Capacity",
    "CodebookRecipe",
    "DataRecipe",
    "EvaluateRecipe",
    "InitRecipe",
    "KnobRecipe",
    "LevelRecipe",
    "MatchRecipe",
    "ModelRecipe",
    "ReplacementRecipe",
    "StudyRecipe",
    "TrainRecipe",
    "Treatment",
    "TrialRecipe",
    "TuneRecipe",
    "UpdateRecipe",
    "dump_yaml",
    "load_recipe",
    "load_trial",
    "merge",
    "parse",
    "recipe_text",
    "set_key",
    "shipped_recipes",
]
