"""The verdict of a study in a few sentences, derived only from its comparisons and collapsed trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flatvq import records
from flatvq.metrics import PRIMARY, TRIAL_METRICS, Metric
from flatvq.number_format import decimals
from flatvq.recipe import Treatment
from flatvq.study.collapse import count_relapses
from flatvq.study.comparisons import Comparison
from flatvq.study.plan import Plan
from flatvq.study.statistics import Difference, Verdict

__all__ = ["Compared", "study_verdict"]


# More comparisons of one kind are counted instead of listed. All of them are in the table of the report.
_MAX_CLAUSES = 4
# Below this p value, the sentence says that seeds do not spread normally.
_NOT_NORMAL = 0.01

_CONDITIONS: dict[Treatment, str] = {
    "naive": "With naive codebooks",
    "init": "With codebooks initialized from data and not replaced",
    "replacement": "With codebooks replaced and not initialized from data",
    "healthy": "With healthy codebooks",
}

_STATEMENTS: dict[Verdict, str] = {
    "equivalent": "{a} is equivalent to {b}",
    "better": "{a} {verb} better than {b}",
    "worse": "{a} {verb} worse than {b}",
    "not worse": "{a} is at most the margin worse than {b}; whether it is better is open",
    "not better": "{a} is at most the margin better than {b}; whether it is worse is open",
    "inconclusive": "{a} against {b} is inconclusive",
}

_INTERACTIONS: dict[Verdict, str] = {
    "equivalent": "preventing collapse helps {a} as much as {c}",
    "better": "preventing collapse helps {a} more than {c}",
    "worse": "preventing collapse helps {a} less than {c}",
    "not worse": "preventing collapse helps {a} at least as much as {c}, up to the margin",
    "not better": "preventing collapse helps {a} at most as much as {c}, up to the margin",
    "inconclusive": "whether preventing collapse helps {a} more or less than {c} is open",
}

# For arms that differ in something other than the measures against collapse.
_OTHER_INTERACTIONS: dict[Verdict, str] = {
    "equivalent": "{a} gains as much over {b} as {c} over {d}",
    "better": "{a} gains more over {b} than {c} over {d}",
    "worse": "{a} gains less over {b} than {c} over {d}",
    "not worse": "{a} gains at least as much over {b} as {c} over {d}, up to the margin",
    "not better": "{a} gains at most as much over {b} as {c} over {d}, up to the margin",
    "inconclusive": "whether {a} gains more or less over {b} than {c} over {d} is open",
}


@dataclass(frozen=True)
class Compared:
    """A comparison and its result."""

    comparison: Comparison
    difference: Difference
    metric: Metric = TRIAL_METRICS[PRIMARY]
    normality_p: float | None = None
    """The p value of a normality test of the seeds (`flatvq.study.statistics.normality_p`)."""

    def to_brief(self) -> records.Compared:
        """Return the record of a look."""
        pair, result = self.comparison, self.difference
        return records.Compared(
            a=pair.a,
            b=pair.b,
            c=pair.c or None,
            d=pair.d or None,
            difference=result.mean,
            interval90=result.interval90,
            verdict=result.verdict,
        )

    def to_record(self) -> records.Comparison:
        """Return the record that `study.json` holds."""
        result = self.difference
        return records.Comparison(
            **self.to_brief().model_dump(),
            question=self.comparison.question,
            primary=self.comparison.primary,
            metric=self.metric.key,
            margin=result.margin,
            seeds=result.seeds,
            per_seed=result.per_seed,
            degrees_of_freedom=result.degrees_of_freedom,
            p_equivalence=result.p_equivalence,
            level=result.level,
            normality_p=self.normality_p,
        )


def study_verdict(
    plan: Plan, compared: Sequence[Compared], trials: Sequence[records.Trial] = (), look: int | None = None
) -> records.Verdict:
    """Summarize the comparisons: the primary one, then other comparisons of hierarchies, then interactions.

    Arms with trials that failed or have no value, and healthy arms with collapsed trials, are named too.

    Args:
        plan: the study.
        compared: its comparisons.
        trials: its trials.
        look: the number of seeds of the look; by default the last one.

    Returns:
        The sentences, and the verdicts of the primary comparison and of the hierarchy comparison with naive
        and with healthy codebooks. A verdict applies to the arm with fewer levels. It is None unless there is
        exactly one such comparison.
    """
    primary = next((result for result in compared if result.comparison.primary), None)
    secondary = [result for result in compared if result is not primary]
    by_treatment = {treatment: _hierarchy(plan, secondary, treatment) for treatment in _CONDITIONS}
    named = [result for result in secondary if result.comparison.question == "asked"]
    lead = _primary(plan, primary, look or plan.recipe.looks[-1]) if primary else []
    sentences = [
        *(
            sentence
            for treatment, results in by_treatment.items()
            for sentence in _sentences(_CONDITIONS[treatment], results)
        ),
        *_sentences("As asked", named),
        *(_interaction(plan, result) for result in secondary if result.comparison.question == "interaction"),
    ]
    sentences += _left_out(plan, trials)
    healthy = _hierarchy(plan, compared, "healthy")
    arms = dict.fromkeys(arm for result in healthy for arm in result.comparison.arms)
    sentences += [_relapse(arm, *count) for arm in arms if (count := count_relapses(trials, arm))[0]]
    return records.Verdict(
        sentence=" ".join([*lead, *sentences]) or "No pair of arms could be compared.",
        lead=" ".join(lead),
        primary=primary.difference.verdict if primary else None,
        naive=_only_verdict(_hierarchy(plan, compared, "naive")),
        healthy=_only_verdict(healthy),
    )


def _hierarchy(plan: Plan, compared: Sequence[Compared], treatment: Treatment) -> list[Compared]:
    return [
        result
        for result in compared
        if result.comparison.question == "hierarchy" and plan.arm(result.comparison.a).treatment == treatment
    ]


def _only_verdict(compared: list[Compared]) -> str | None:
    return compared[0].difference.verdict if len(compared) == 1 else None


def _primary(plan: Plan, primary: Compared, look: int) -> list[str]:
    """Write the answer of the study, whether the first arm is on a par, and how many looks there are."""
    result, looks = primary.difference, plan.recipe.looks
    statement = _statement(primary)
    number = f"look {looks.index(look) + 1} of {len(looks)}, " if len(looks) > 1 else ""
    sentences = [f"{statement} ({number}{_measured(primary)})."]
    if result.interval90 and result.verdict != "better":
        sentences.append(_on_a_par(primary))
    if primary.normality_p is not None and primary.normality_p < _NOT_NORMAL:
        sentences.append(
            f"The seeds do not spread normally (p = {primary.normality_p:.2g}), so the error of this verdict "
            "may exceed the stated one."
        )
    return sentences


def _on_a_par(compared: Compared) -> str:
    """Write whether the first arm is not inferior: at most the margin worse."""
    low, high = compared.difference.interval90 or (0.0, 0.0)
    if compared.metric.higher_is_better is False:
        low, high = -high, -low
    arm, margin = compared.comparison.a, compared.difference.margin
    bound = f"{margin:g} {compared.metric.unit}".rstrip()
    if low > -margin:
        return f"So {arm} is on a par (at most {bound} worse)."
    if high < -margin:
        return f"So {arm} is not on a par (more than {bound} worse)."
    return f"Whether {arm} is on a par (at most {bound} worse) is open."


def _sentences(condition: str, compared: Sequence[Compared]) -> list[str]:
    """Write a sentence for each of a few comparisons, or one sentence that counts the verdicts of many."""
    if len(compared) <= _MAX_CLAUSES:
        return [_sentence(condition, result) for result in compared]
    verdicts = Counter(result.difference.verdict for result in compared)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    return [f"{condition}, of {len(compared)} comparisons: {counts}."]


def _sentence(condition: str, compared: Compared) -> str:
    return f"{condition}, {_statement(compared)} ({_measured(compared)})."


def _statement(compared: Compared) -> str:
    """Write the verdict. Only PSNR says which arm reconstructs better; coded bits, for example, do not."""
    pair, verb = compared.comparison, "reconstructs" if compared.metric.unit == "dB" else "is"
    return _STATEMENTS[compared.difference.verdict].format(a=pair.a, b=pair.b, verb=verb)


def _interaction(plan: Plan, compared: Compared) -> str:
    pair = compared.comparison
    arms_of = [plan.arm(arm) for arm in pair.arms]
    treatments, models = [arm.treatment for arm in arms_of], [arm.recipe.model for arm in arms_of]
    prevented = treatments == ["healthy", "naive"] * 2 and models[::2] == models[1::2]
    statements = _INTERACTIONS if prevented else _OTHER_INTERACTIONS
    arms = {"a": pair.a, "b": pair.b, "c": pair.c, "d": pair.d}
    return f"Interaction: {statements[compared.difference.verdict].format(**arms)} ({_measured(compared)})."


def _measured(compared: Compared) -> str:
    result, metric = compared.difference, compared.metric
    unit = f" {metric.unit}" if metric.unit else ""
    digits = decimals(result.margin)
    interval = result.interval90
    spread = (
        f"90 % interval {interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}" if interval else "no interval"
    )
    seeds = f"{result.seeds} seed{'s' if result.seeds != 1 else ''}"
    name = "" if metric.unit == "dB" else f"{metric.label} "
    return f"{name}{result.mean:+.{digits}f}{unit}, {spread}, margin {result.margin:g}{unit}, {seeds}"


def _left_out(plan: Plan, trials: Sequence[records.Trial]) -> list[str]:
    """Name the arms of which some trials failed or have no value of the metric."""
    sentences = []
    for arm in dict.fromkeys(trial.arm for trial in trials):
        own = [trial for trial in trials if trial.arm == arm]
        missing = sum(not trial.done or trial.value(plan.recipe.metric) is None for trial in own)
        if missing:
            has = "has" if missing == 1 else "have"
            sentences.append(
                f"{missing} of {len(own)} trials of {arm} {has} no result. The comparisons leave "
                f"{'it' if missing == 1 else 'them'} out."
            )
    return sentences


def _relapse(arm: str, collapsed: int, trained: int) -> str:
    count = f"{collapsed} of {trained} trials"
    return f"Despite the measures against collapse, {arm} ended with a collapsed level in {count}."
