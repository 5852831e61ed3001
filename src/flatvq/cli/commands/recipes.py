"""Commands for recipes: `capacity` and `recipes`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flatvq.cli.app import LONGEST_SIDE, AsJson

__all__ = ["capacity", "recipes"]


def capacity(
    recipes: Annotated[list[str], typer.Argument(help="Names of shipped recipes, or paths of .yaml files.")],
    size: Annotated[
        int | None,
        typer.Option(min=1, max=LONGEST_SIDE, help="Side of the image. Default: the crop of the recipe."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print bits, parameters and multiply-adds of all arms, with their differences from the reference arm."""
    from flatvq.cli.plan_tables import show_capacity
    from flatvq.recipe import load_recipe
    from flatvq.study import planned_arms

    arms_by_recipe = {name: planned_arms(load_recipe(name), size) for name in recipes}
    if as_json:
        tree = {name: [arm.to_dict() for arm in arms] for name, arms in arms_by_recipe.items()}
        typer.echo(json.dumps(tree))
    else:
        for name, arms in arms_by_recipe.items():
            show_capacity(name, arms)


def recipes(
    name: Annotated[str, typer.Argument(help="Print this recipe.")] = "",
    fields: Annotated[bool, typer.Option("--fields", help="Describe every key of a recipe.")] = False,
) -> None:
    """List the shipped recipes, print one, or describe the keys of a recipe."""
    from flatvq.cli.recipe_texts import show_fields, show_recipes
    from flatvq.recipe import recipe_text, shipped_recipes

    if fields:
        show_fields()
    elif name:
        typer.echo(recipe_text(name), nl=False)
    else:
        show_recipes(shipped_recipes())
