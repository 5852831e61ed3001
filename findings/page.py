"""From the records to docs/findings.md: the template says how it reads, this module what it may call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from findings import tables
from findings.claims import Claim, claims
from findings.matchings import FACTORIALS, matchings
from findings.records import Record, read, twins
from flatvq.recipe import load_recipe
from flatvq.records import load_study
from flatvq.study.collapse import count_relapses
from flatvq.study.statistics import mean_interval

__all__ = ["Story", "render", "story"]

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
    """All that the page tells of.

    Attributes:
        results: the folder of the records.
        records: the committed studies, by name.
        claims: the reference's claims that they bear on.
        levels: what `flatvq levels` found, by the name of the run.
        searches: the records of `flatvq tune`, by the name of their folder.
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
    """Fill the template in."""
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
        "spent": lambda arm, of: f"{story.records['imagenet-64-bits'].arm(arm)[of]:,}",
        "seeds_table": lambda record, arms: "\n".join(tables.seeds_table(record, arms)),
        "collapsed": lambda record, arm: _collapsed_trials(story.results / record.name, arm),
        "searches_table": lambda: "\n".join(tables.searches_table(story.searches)),
        "levels_table": lambda: "\n".join(tables.levels_table(story.levels)),
        "per_doubling": per_doubling,
        "twins": lambda one, two: twins(story.records[one], story.records[two]),
    }
    told = {
        "studies": story.records,
        "factorials": FACTORIALS,
        "claims": {of: [part for part in story.claims if part.of == of] for of in _in_order(story.claims)},
        "searches": story.searches,
        "levels": story.levels,
        "at_256": at_256,
    }
    return environment.get_template(_TEMPLATE).render(told | functions)


def _collapsed_trials(study: Path, arm: str) -> int:
    return count_relapses(load_study(study).trials, arm)[0]


def _in_order(parts: Sequence[Claim]) -> list[str]:
    return list(dict.fromkeys(part.of for part in parts))


def per_doubling(record: Record, low: str, high: str) -> str:
    """Write the gain in dB per doubling of K between two sizes, with its interval over seeds."""
    doublings = log2(int(high.removeprefix("k-")) / int(low.removeprefix("k-")))
    found = mean_interval([gain / doublings for gain in record.pair(high, low).found.per_seed])
    assert found.interval is not None
    return f"{found.mean:.2f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
