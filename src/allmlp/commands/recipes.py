"""`allmlp recipes`."""

import argparse
import fnmatch
import json

from allmlp.errors import unknown_name
from allmlp.recipe import Recipe
from allmlp.recipes import RECIPES, about


def run(options: argparse.Namespace) -> int:
    found = [recipe for name, recipe in RECIPES.items() if fnmatch.fnmatch(name, options.pattern)]
    if not found:
        raise unknown_name("recipe", options.pattern, RECIPES, "`allmlp recipes` lists all")
    if options.json:
        print(json.dumps([{"recipe": json.loads(recipe.to_json()), "about": about(recipe.name)} for recipe in found]))
    elif len(found) == 1:
        print(f"{about(found[0].name)}\n\n{found[0].to_json(indent=2)}")
    else:
        rows = [row(recipe) for recipe in found]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for cells in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        print("Top-1 in percent; * measured by us, all others as published. One in full: allmlp recipes NAME.")
    return 0


def row(recipe: Recipe) -> tuple[str, ...]:
    """Name, network, data, length, accuracy and where that stands."""
    schedule, expected = recipe.schedule, recipe.expected
    length = f"{schedule.steps:,} steps" if schedule.steps else f"{schedule.epochs:g} epochs"
    if expected is None or expected.accuracy is None:
        return recipe.name, recipe.model, recipe.data, length, "", ""
    accuracy = f"{expected.accuracy:.2f}{'*' if expected.measured else ''}"
    return recipe.name, recipe.model, recipe.data, length, accuracy, expected.source
