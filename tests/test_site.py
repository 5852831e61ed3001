"""The documentation site builds without a warning, needs no network, and its generated pages are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docsite.recipe_keys import recipe_keys
from typer.main import get_command

from flatvq.cli.commands import app
from flatvq.recipe import StudyRecipe

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return place


class Loaded(HTMLParser):
    """Collect what a browser loads when it opens a page: scripts, style sheets, images and frames."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(given.get("href") or "")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert [address for address in loaded.addresses if "//" in address] == [], page
        # With this component, the page asks GitHub for facts about the repository.
        assert 'data-md-component="source"' not in page.read_text(encoding="utf-8")


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    page = (site / "reference/cli.html").read_text(encoding="utf-8")
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f'id="flatvq-{name}"' in page
        assert [o for p in command.params for o in p.opts if o.startswith("--") and o not in page] == []


def test_every_recipe_key_is_on_its_page() -> None:
    text = recipe_keys()
    for section in re.findall(r"^## `(.+)`$", text, re.M):
        assert f"`{section}" in text
    keys = set(re.findall(r"^`(\S+)`$", text, re.M))
    assert {*StudyRecipe.model_fields} - {"data", "model", "codebook", "train", "evaluate"} <= keys
    assert {"train.steps", "codebook.replacement.every", "model.levels.codebook_size", "data.crop"} <= keys


def test_every_module_is_on_the_page_of_the_layout(site: Path) -> None:
    page = (site / "development/layout.html").read_text(encoding="utf-8")
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / "src/flatvq").rglob("*.py")]
    named = [module for module in modules if not module.endswith("__init__.py")]
    assert [module for module in named if module not in page and "__main__" not in module] == []


def test_examples_are_shown_as_examples(site: Path) -> None:
    page = (site / "reference/api/quantizers.html").read_text(encoding="utf-8")
    assert page.count("Examples:") > 10
    assert "Example:" not in page
