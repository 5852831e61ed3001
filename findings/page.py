"""Render docs/findings.md from the records: the template, and the functions that it may call."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from findings import tables
from findings.claims import Claim, claims
from findings.matchings import FACTORIALS, matchings
from findings.records import Record, read, shared_trainings
from flatvq.recipe import load_recipe
from flatvq.records import load_study
from flatvq.study.collapse import count_relapses
from flatvq.study.estimates import mean_interval

__all__ = ["Story", "provenance", "render", "story"]

_STUDIES = (
    *FACTORIALS,
    "headline",
    "imagenet-128",
    "variants",
    "dimension",
    "size",
    "tuned",
    "imagenet-256-start",
)
_TEMPLATE = "page.md.jinja"


@dataclass(frozen=True)
class Story:
    """The content of the page.

    Attributes:
        results: folder of the records.
        records: the committed studies by name.
        claims: the claims that they answer.
        levels: the content of `levels.json` by name of the run.
        searches: the content of `tune.json` by name of the folder.
    """

    results: Path
    records: dict[str, Record]
    claims: list[Claim]
    levels: dict[str, Any]
    searches: dict[str, Any]


def story(results: Path) -> Story:
    """Read the records of a folder."""
    records = read(results, _STUDIES)
    levels = {path.stem: _json(path) for path in sorted((results / "levels").glob("*.json"))}
    searches = {path.parent.name: _json(path) for path in sorted(results.glob("tune-*/tune.json"))}
    return Story(results, records, claims(records, levels), levels, searches)


def render(story: Story) -> str:
    """Render the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["log2"] = log2
    at_256 = load_recipe("imagenet-256")
    images = at_256.train.steps * at_256.train.batch_size
    functions = {
        "arms_table": lambda record: "\n".join(tables.arms_table(record)),
        "factorial_table": lambda record: "\n".join(tables.factorial_table(record)),
        "matchings_table": lambda health: "\n".join(tables.matchings_table(matchings(story.records), health)),
        "pairs_table": lambda pairs: "\n".join(tables.pairs_table(pairs)),
        "cost_table": lambda record: "\n".join(
            tables.cost_table(record, story.results / record.name / "history.parquet", images)
        ),
        "spent": lambda arm, key: f"{story.records['imagenet-64-bits'].arm(arm)[key]:,}",
        "seeds_table": lambda record, arms: "\n".join(tables.seeds_table(record, arms)),
        "collapsed": lambda record, arm: _collapsed_trials(story.results / record.name, arm),
        "searches_table": lambda: "\n".join(tables.searches_table(story.searches)),
        "levels_table": lambda: "\n".join(tables.levels_table(story.levels)),
        "per_doubling": per_doubling,
        "shared_trainings": lambda a, b: shared_trainings(story.records[a], story.records[b]),
        "provenance": lambda: provenance(story.records.values()),
    }
    values = {
        "studies": story.records,
        "factorials": FACTORIALS,
        "claims": {
            topic: [claim for claim in story.claims if claim.topic == topic]
            for topic in dict.fromkeys(claim.topic for claim in story.claims)
        },
        "searches": story.searches,
        "levels": story.levels,
        "at_256": at_256,
    }
    return environment.get_template(_TEMPLATE).render(values | functions)


def provenance(records: Iterable[Record]) -> str:
    """State which versions and training protocols the studies were made with.

    Example:
        >>> provenance([Record("a", {"flatvq": "0.2.0", "training_protocol": 5})])
        'The studies on this page were made with version 0.2.0, training protocol 5.'
    """
    made = sorted({(record.study["flatvq"], record.study["training_protocol"] or 0) for record in records})
    # Version 0.1 did not store its training protocol, which was 4 at most.
    phrases = [f"version {version}, training protocol {number or '4 or earlier'}" for version, number in made]
    return f"The studies on this page were made with {'; '.join(phrases)}."


def _collapsed_trials(study: Path, arm: str) -> int:
    return count_relapses(load_study(study).trials, arm)[0]


def per_doubling(record: Record, low: str, high: str) -> str:
    """Write the gain in dB per doubling of K between two sizes, with its interval over seeds."""
    doublings = log2(int(high.removeprefix("k-")) / int(low.removeprefix("k-")))
    gain = mean_interval([gain / doublings for gain in record.pair(high, low).difference.per_seed])
    assert gain.interval is not None
    return f"{gain.mean:.2f} [{gain.interval[0]:.2f}, {gain.interval[1]:.2f}]"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
