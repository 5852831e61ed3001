"""Render docs/findings.md from the records: the template, and the functions that it may call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from findings import tables
from findings.answer import (
    Answer,
    answer_table,
    collapsed_hierarchies,
    earlier_designs,
    summary,
    unsettled,
)
from findings.coded import CodedBits, coded_table
from findings.rates import ARCHITECTURES, effective_bits, rate_differences
from findings.records import Record, with_interval
from findings.searches import Search, searches_table

__all__ = ["STUDIES", "provenance", "read", "read_default_study", "render"]

STUDIES = ("headline", "frontier-64", "frontier-128", "frontier-256", "init", "length", "tuned")
"""The studies that the page shows, by the names of their folders."""
_DEFAULT_STUDY = "photographs"
_TEMPLATE = "page.md.jinja"


def read(results: Path) -> dict[str, Record]:
    """Read the records of the page that exist."""
    return {name: Record.read(results / name) for name in STUDIES if (results / name).is_dir()}


def read_default_study(results: Path) -> Record:
    """Read the record of the default study, which the page shows among its limits."""
    return Record.read(results / _DEFAULT_STUDY)


def render(
    records: Mapping[str, Record],
    default_study: Record,
    coded: list[CodedBits],
    searches: Mapping[str, Search],
    repetitions: str,
) -> str:
    """Render the page.

    Args:
        records: the studies, by name.
        default_study: the record of the default study.
        coded: the coded bits of their tokenizers.
        searches: the searches behind the study of tuned arms, by arm.
        repetitions: the results of repetitions of the default study, in sentences.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    frontiers = [record for name, record in records.items() if name.startswith("frontier-")]
    coded_curves = [one for one in coded if one.complete and one.record in frontiers]
    healthy, tuned, naive = _answers(records)
    answers = [*healthy, *tuned, *naive]
    return environment.get_template(_TEMPLATE).render(
        headline=records["headline"],
        init=records.get("init"),
        length=records.get("length"),
        tuned=records.get("tuned"),
        searches=searches,
        searches_table=searches_table,
        finished_trials=_finished_trials(searches),
        repetitions=repetitions,
        recorded_in_bfloat16=[
            f"`{name}`"
            for name, record in records.items()
            if {trial.get("precision") for trial in record.study["trials"]} == {"bfloat16"}
        ],
        default_healthy=_with_verdict(default_study, "single-level-healthy", "two-level-healthy"),
        default_naive=_with_verdict(default_study, "single-level-naive", "two-level-naive"),
        coded=coded,
        coded_curves=coded_curves,
        coded_table=coded_table,
        frontiers=frontiers,
        hierarchies=ARCHITECTURES[1:],
        provenance=provenance(records.values()),
        collapsed=tables.collapsed_levels(records.values()),
        healthy_levels=_healthy_levels(records.values()),
        capacity_table=tables.capacity_table,
        comparisons_table=tables.comparisons_table,
        arms_table=tables.arms_table,
        answers=answers,
        summaries=[summary(group) for group in (healthy, tuned, naive) if group],
        answer_table=answer_table(answers),
        after_4000_steps=_after_4000_steps(records.get("length")),
        collapsed_hierarchies=collapsed_hierarchies(answers),
        earlier_designs=earlier_designs(records.values()),
        unsettled_answers=unsettled({answer.record.name: answer.record for answer in answers}.values()),
        unsettled_frontiers=unsettled(frontiers),
        shortest_range=min(
            one.shared[1] - one.shared[0] for record in frontiers for one in rate_differences(record)
        ),
        rates_line=tables.rates_line,
        effective_rates=tables.rates_table(((record, effective_bits) for record in frontiers), "effective"),
        coded_rates=tables.rates_table(((one.record, one.of_trial) for one in coded_curves), "coded"),
    )


def _answers(records: Mapping[str, Record]) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Return the answers with healthy codebooks, with tuned settings, and with naive codebooks."""
    headline, tuned = records["headline"], records.get("tuned")
    hierarchies = ARCHITECTURES[1:]
    larger = [
        record
        for name, record in records.items()
        if name.startswith("frontier-") and record.size != headline.size
    ]
    healthy = [
        Answer("healthy", "shared", headline, "single", hierarchies),
        *(
            Answer("healthy", "shared", record, "single-512", tuple(f"{name}-512" for name in hierarchies))
            for record in larger
        ),
    ]
    of_tuned = tuple(arm for arm in tuned.arms if arm != "single") if tuned else ()
    naive = tuple(f"{name}-naive" for name in hierarchies)
    return (
        healthy,
        [Answer("healthy", "tuned", tuned, "single", of_tuned)] if tuned else [],
        [Answer("naive", "shared", headline, "single-naive", naive)],
    )


def _finished_trials(searches: Mapping[str, Search]) -> str:
    """Return the number of finished trials of each search; a range if the numbers differ."""
    numbers = {sum(trial["state"] == "done" for trial in search["trials"]) for search in searches.values()}
    return " to ".join(str(number) for number in sorted({min(numbers), max(numbers)})) if numbers else ""


def _after_4000_steps(length: Record | None) -> str:
    """Write the difference between one level and the parallel hierarchy in the longest trainings."""
    return "" if length is None else _with_verdict(length, "single-4000", "parallel-4000")


def _with_verdict(record: Record, *arms: str) -> str:
    """Write a difference with its interval, number of seeds and verdict."""
    comparison = record.comparison(*arms)
    difference = with_interval(comparison["difference"], comparison["interval90"])
    return f"{difference} over {comparison['seeds']} seeds, **{comparison['verdict']}**"


def _healthy_levels(records: Iterable[Record]) -> int:
    """Count the trained codebooks of healthy arms."""
    return sum(
        len(trial["levels"])
        for record in records
        for arm in record.arms
        if not arm.endswith("-naive")
        for trial in record.trials(arm)
    )


def provenance(records: Iterable[Record]) -> str:
    """State which versions, training protocols and processors the studies were made with.

    Example:
        >>> study = {"flatvq": "0.2.0", "training_protocol": 5, "machine": {"processor": "AMD EPYC"}}
        >>> provenance([Record("a", study, {})])
        'The studies on this page were made with version 0.2.0, training protocol 5, on AMD EPYC.'
    """
    made = {
        (study["flatvq"], study["training_protocol"], study["machine"]["processor"])
        for study in (record.study for record in records)
    }
    phrases = [
        f"version {version}, training protocol {protocol}, on {processor}"
        for version, protocol, processor in sorted(made)
    ]
    return f"The studies on this page were made with {'; '.join(phrases)}."
