"""The documents: their code runs, links lead somewhere, commands and recipes parse.

Conventions: every ```python block is a program of its own, run in an empty folder that holds a study's run;
every ```yaml block is a whole recipe; every ```sh block and every inline `flatvq ...` is a command.
tests/extend runs the code of the page in EXTEND, which writes a package.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import yaml

from flatvq.recipe import StudyRecipe, load_recipe, parse, shipped_recipes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
}
EXTEND = "docs/how-to/extend.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(language: str) -> list[Any]:
    """Collect all blocks of a language, named by page and line."""
    params = []
    for name, text in PAGES.items():
        for block in _BLOCK.finditer(text):
            if block[1] == language and name != EXTEND:
                line = text[: block.start()].count("\n") + 1
                params.append(pytest.param(block[2], id=f"{name}:{line}"))
    return params


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every shell command of every page, as its page and words."""
    for name, text in PAGES.items():
        if name == EXTEND:
            continue
        lines = [line for block in _BLOCK.finditer(text) if block[1] == "sh" for line in logical(block[2])]
        for line in [*lines, *inline(text)]:
            if re.match(r"(\S*/)?(flatvq|torchrun|make) ", line):
                yield name, shlex.split(line, comments=True)


def logical(script: str) -> list[str]:
    return script.replace("\\\n", " ").splitlines()


def inline(text: str) -> list[str]:
    return [code[1] for code in _INLINE.finditer(_BLOCK.sub("", text))]


@pytest.fixture
def finished_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the working folder one where the default study has left a (here untrained) tokenizer."""
    from flatvq.model import build_vqvae, save_tokenizer
    from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

    recipe = ModelRecipe(width=8, residual_width=2, levels=(LevelRecipe(codebook_size=16, code_dim=4),))
    folder = tmp_path / "studies/photographs/runs/single-level-healthy/seed-0-00000000/model"
    save_tokenizer(folder, build_vqvae(recipe, CodebookRecipe()), {"model": recipe.model_dump()})
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("finished_study")
@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str) -> None:
    exec(compile(code, "<document>", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_recipes_can_be_planned(text: str) -> None:
    from flatvq.study import plan_study

    assert plan_study(parse(StudyRecipe, yaml.safe_load(text)), "document").trials


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    links = [link for link in _LINK.findall(_BLOCK.sub("", PAGES[name])) if "://" not in link]
    assert [link for link in links if not leads_somewhere(ROOT / name, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """Return a page's headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    options = options_of_commands()
    seen = set()
    for page, arguments in commands():
        if arguments[0] == "make":
            assert f"\n{arguments[1]}:" in makefile, (page, arguments)
            continue
        program = next(place for place, word in enumerate(arguments) if re.fullmatch(r"(.*/)?flatvq", word))
        command, *rest = arguments[program + 1 :]
        assert {word for word in rest if word.startswith("--")} <= options[command], (page, arguments)
        check_recipe(command, rest)
        seen.add(command)
    assert seen == options.keys(), "a command is not mentioned"


def options_of_commands() -> dict[str, set[str]]:
    """Return the options of each command; those of the program itself under `--help`."""
    import typer.main

    from flatvq.cli.commands import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: {option for p in command.params for option in p.opts} for name, command in commands.items()
    }
    return {**options, "--help": set(), "--version": set()}


def check_recipe(command: str, arguments: list[str]) -> None:
    """Check that a shipped recipe takes the overrides and has the arm of a command."""
    if command not in ("study", "train") or not arguments or arguments[0] not in shipped_recipes():
        return
    given = list(pairwise(arguments))
    recipe = load_recipe(arguments[0], [value for option, value in given if option == "--set"])
    assert {value for option, value in given if option == "--arm"} <= recipe.arms.keys()


def test_the_help_names_the_exit_codes_of_the_quickstart() -> None:
    from flatvq.cli.app import app

    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8").split("## Errors")[1]
    documented = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    epilog = str(app.info.epilog).removeprefix("Exit codes: ")
    assert documented == re.findall(r"(?:^|, )(\d+) ", epilog)


def test_the_glossary_defines_each_term_once_in_alphabetical_order() -> None:
    terms = re.findall(r"^- \*\*(.+?)\*\*: ", PAGES["docs/glossary.md"], re.MULTILINE)
    assert len(terms) > 50
    folded = [term.casefold() for term in terms]
    assert folded == sorted(set(folded))


def test_every_dotted_name_exists() -> None:
    codes = {code for text in PAGES.values() for code in inline(text)}
    names = [code for code in codes if re.fullmatch(r"flatvq(\.\w+)+", code)]
    assert names
    for name in names:
        resolve_name(name)
