"""The project's style as proselint checks: phrases, and what to write instead."""

from __future__ import annotations

from proselint.registry.checks import Check, Padding, types

__all__ = ["CHECKS"]

# Words with a private meaning, and what they stood for.
_PRIVATE_WORDS = {
    r"(is|are|was|were|be|been) told": "is reported",
    r"told (of|by|from|through|beside|once)": "reported, distinguished",
    r"tells? (whether|which|how|what)": "returns, says",
    r"fates?": "status",
    r"looks? at (images|the|a|an|what)": "a validation, a check",
    r"looked (at|for)": "checked, searched, evaluated",
    r"newborns?": "new code",
    r"re-?seed(ed|ing|s)?": "replace",
    r"seeding": "init",
    r"seeded from (data|the data)": "initialized from data",
    r"revivals?": "dead-code replacement",
    r"revived?": "replaced",
    r"hopeless": "unpromising",
    r"given up": "pruned",
}
# Sentences turned around, and words that speak of programs as of people.
_TRANSLATED = {
    r"as if it never had been": "resumes with bit-identical weights",
    r"as good as (a|another)": "like, equivalent to",
    r"rounds? otherwise": "rounding differs",
    r"by the way of": "by",
    r"has to say the same": "must be deterministic",
    r"come(s)? about": "start, are made",
    r"as (near|far|long) as (they|it) comes?": "the closest",
    r"what is left": "the rest, the residual",
    r"kept aside": "set aside for validation",
    r"could not be built, .{1,60} does": "fallback: ...",
    r"gave wrong": "invalid input",
    r"may leave to": "may fall back to",
    r"each time twice as many": "with exponential back-off",
    r"measured of the question": "the answer to its question",
    r"(its|their|his) (very )?own (accord|making)": "by itself",
    r"(speaks?|answers?|vouches) for (all|itself|themselves)": "an active verb",
    r"for the while": "temporarily",
    r"none of (them|these|it) (changes|costs|knows)": "an active verb",
    r"whoever": "the caller, a reader",
    r"goes on as": "continues as",
    r"nothing is lost": "name what is kept",
    r"is let": "may",
    r"is taken for": "is mistaken for",
    r"of late": "recently",
    r"for long": "for many steps",
    r"in a word": "in one word",
    r"mends?": "repairs, fixes",
    r"(has|have) not the": "does not have the",
    r"no more than one": "at most one",
    r"bears? witness": "shows",
    r"beside (it|them|its|the|each|every|other|one|what|all)": "compared with, next to",
}

_MESSAGE = "'{1}' reads as translated or has a private meaning. Write: {0}."


def _check(path: str, phrases: dict[str, str]) -> Check:
    return Check(
        check_type=types.PreferredForms(items=phrases, padding=Padding.WORDS_IN_TEXT),
        path=f"flatvq.{path}",
        message=_MESSAGE,
    )


CHECKS = (_check("private_words", _PRIVATE_WORDS), _check("translated", _TRANSLATED))
