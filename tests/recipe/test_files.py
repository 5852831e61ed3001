"""Recipe files, overrides and recipes of runs; invalid ones are one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, TrialRecipe, dump_yaml, load_recipe, load_trial, parse

ROOT = Path(__file__).parents[2]
RECORDED = sorted(ROOT.glob("results/**/*.yaml"))


def refused(name: str, *overrides: str) -> str:
    with pytest.raises(FlatvqError) as error:
        load_recipe(name, overrides)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(name)
    return str(error.value)


def written(folder: Path, content: bytes | str) -> str:
    path = folder / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_a_duplicate_section_is_rejected_with_both_lines(tmp_path: Path) -> None:
    text = "train: {steps: 10, learning_rate: 0.01}\ndata: {crop: 64}\ntrain: {batch_size: 7}\n"
    name = written(tmp_path, text)
    assert refused(name) == f"recipe {name!r} has the key 'train' twice, at lines 1 and 3: keep one of them"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# nothing yet\n", "is empty"),
        (b"- a\n- b\n", "is not a mapping of keys to values"),
        (b"just text", "is not a mapping of keys to values"),
        ("title: x".encode("utf-16"), "is not UTF-8 (byte 1): save it as UTF-8"),
        (b"title: caf\xe9", "is not UTF-8 (byte 11)"),
        (b"title: x\n" + b"#" * 2**18, "is larger than 256 KiB"),
        (b"title: a\n---\ntitle: b\n", "line 2 (but found another document)"),
        (b"title: [" + b"x" * 100_000 + b"]", "'title' is ['xxxx"),
        (b"train:\n", "'train' is empty"),
        (b"seeds:\n", "'seeds' is empty"),
        (b"title: 5\n", "'title' is 5 in recipe"),
        (b"title: true\n", "'title' is true in recipe"),
    ],
)
def test_a_file_that_holds_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refused(written(tmp_path, content))


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, "title: née".encode("utf-8-sig"))).title == "née"


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot read recipe" in refused(str(tmp_path / "folder.yaml"))
    assert "is a directory" in refused(str(tmp_path / "folder.yaml"))
    assert "no such file" in refused(str(tmp_path / "absent.yaml"))
    (tmp_path / "file").touch()
    assert "not a directory" in refused(str(tmp_path / "file" / "a.yaml"))
    assert "file name too long" in refused("x" * 300 + ".yaml")
    assert "null" in refused("a\0b.yaml")
    assert "no home folder for '~nobody-here/a.yaml'" in refused("~nobody-here/a.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.steps", "yes", "'train.steps' is 'yes'"),
        ("train.steps", "true", "'train.steps' is true"),
        ("train.steps", "'10'", "write a whole number, without quotes"),
        ("train.steps", "010", "write a whole number, without quotes"),
        ("train.learning_rate", "'10'", "write a finite number in decimals, without quotes"),
        ("train.steps", "1:30", "'train.steps' is '1:30'"),
        ("train.steps", "10.5", "'train.steps' is 10.5 in override 'train.steps=10.5': write a whole number"),
        ("train.steps", "9223372036854775808", "less than or equal to 99999999"),
        ("train.steps", "1e400", "'train.steps' is inf"),
        ("train.learning_rate", ".nan", "should be a finite number"),
        ("train.learning_rate", "false", "'train.learning_rate' is false"),
        ("codebook.replacement.count", "yes", "'codebook.replacement.count' is 'yes'"),
        ("seeds", "[0, true]", "'seeds' is [0, True]"),
        ("seeds", "['0', 1]", "write a whole number, without quotes"),
        ("model.channels", "true", "'model.channels' is true"),
        ("data.flip", "2", "'data.flip' is 2"),
        ("data.flip", "maybe", "'data.flip' is 'maybe'"),
    ],
)
def test_a_value_of_another_type_is_rejected(key: str, value: str, message: str) -> None:
    assert message in refused("photographs", f"{key}={value}")


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("steps", "10", 10),
        ("steps", "10.0", 10),
        ("steps", "1e3", 1000),
        ("steps", "1_000", 1000),
        ("learning_rate", "1e-4", 1e-4),
        ("learning_rate", "1", 1.0),
        ("tensorboard", "yes", True),
        ("tensorboard", "off", False),
    ],
)
def test_an_unambiguous_value_is_accepted(key: str, value: str, number: object) -> None:
    assert getattr(load_recipe("photographs", [f"train.{key}={value}"]).train, key) == number


def test_arm_names_are_the_text_as_written(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "arms: {1: {}, on: {}, 2024-01-01: {}, 1.50: {}}"))
    assert list(recipe.arms) == ["1", "on", "2024-01-01", "1.50"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.steps=5", "train.steps=6"], "override 'train.steps=6' replaces 'train.steps=5'"),
        (["train.steps=5", "train.steps=5"], "replaces"),
        (
            ["train.steps=5", "train={batch_size: 2}"],
            "override 'train={batch_size: 2}' replaces 'train.steps=5'",
        ),
        (["train=5"], "'train' is 5"),
        (["train="], "override 'train=' has no value"),
        (["title.x=5"], "'title' is 'Does a hierarchy"),
        (["looks.0.x=5"], "'looks.0' is 16, which has no key 'x'"),
        (["looks.9=5"], "'looks' has 2 items, and none is '9'"),
        (["looks.00=5"], "none is '00'"),
        (["looks.-1=5"], "none is '-1'"),
        (["looks.²=5"], "none is '²'"),
        (["looks.x=5"], "none is 'x'"),
        (["train..steps=5"], "unknown key 'train.'"),
        (["=5"], "is not key=value"),
        (["train.steps={a: 1, a: 2}"], "has the key 'a' twice"),
        (["train={steps: 5, steps: 6}"], "has the key 'steps' twice"),
        (["train.steps=[5"], "is not YAML"),
        (
            ["data.path=photos #2"],
            "YAML reads 'photos' in override 'data.path=photos #2': put the value in quotes: ",
        ),
        (["title=&x y"], "YAML reads 'y' in override 'title=&x y': put the value in quotes: \"&x y\""),
        (["title=|"], "YAML reads '' in override 'title=|'"),
        (["title=a\n b"], "YAML reads 'a b' in override"),
        (["codebook.replacement=# none"], "override 'codebook.replacement=# none' has no value"),
        (["title=1e3"], "'title' is 1000.0 in override 'title=1e3': write it in quotes"),
        (["train.setps=5"], "unknown key 'train.setps' in override 'train.setps=5': did you mean 'steps'?"),
        (["seeds=[0, 0]"], "under 'seeds': change it in override 'seeds=[0, 0]'"),
        (["train={steps: 5}", "train.batch_size=0"], "is 0 in override 'train.batch_size=0'"),
        (["train={steps: 0}", "train.batch_size=2"], "is 0 in override 'train={steps: 0}'"),
        (["data.crop=20"], "not 20: change it in recipe 'photographs' or an override"),
        (["data.path=mine"], "under 'data': change it in recipe 'photographs' or an override"),
        (
            ["match.capacities=[bist]"],
            "no capacity is named 'bist' under 'match.capacities.0' in override 'match.capacities=[bist]': "
            "did you mean 'bits'?",
        ),
        (
            ["model.levels=[{options: {a: 1}}]"],
            "options.a is unknown for quantizer=vector under 'model.levels.0' in override "
            "'model.levels=[{options: {a: 1}}]': it takes no options",
        ),
        (["match.reference=x"], "no arm is named 'x' in recipe 'photographs' or an override: known are"),
        (["arms.single-level-healty.train.steps=6"], "did you mean 'single-level-healthy'?"),
        (
            ["arms.single-level-naive.data.x.0=6"],
            "'x' is not set here, so it has no item 0: write the whole list, as an arm replaces lists",
        ),
    ],
)
def test_an_invalid_override_is_rejected(overrides: list[str], message: str) -> None:
    assert message in refused("photographs", *overrides)


def test_a_level_of_an_arm_without_levels_is_rejected(tmp_path: Path) -> None:
    name = written(tmp_path, "model: {levels: [{codebook_size: 8}]}\narms: {a: {}, b: {}}\n")
    assert "'levels' is not set here, so it has no item 0: write the whole list" in refused(
        name, "arms.b.model.levels.0.codebook_size=64"
    )
    changed = load_recipe(name, ["arms.b.model.levels=[{codebook_size: 64}]"])
    assert changed.trial("b", 0).model.levels[0].codebook_size == 64


def test_an_override_can_add_an_arm(tmp_path: Path) -> None:
    name = written(tmp_path, "arms: {a: {}}\n")
    added = load_recipe(name, ["arms.b={codebook: {replacement: null}}"])
    assert added.trial("b", 0).codebook.replacement is None
    assert "no arm is named 'b': known are a" in refused(name, "arms.b.codebook.replacement=null")


@pytest.mark.parametrize("text", ["photos #2", "&x y", "|", "# a", "1e3", "a: b", "yes", "it's"])
def test_an_override_in_quotes_is_text_as_written(text: str) -> None:
    assert load_recipe("photographs", [f"title={json.dumps(text)}"]).title == text


@pytest.mark.parametrize("text", ["yes", "a=b", "C:\\x", "~/x", "a{0..3}.tar", "it's", "a#b", " padded "])
def test_an_override_without_quotes_is_text_as_written(text: str) -> None:
    assert load_recipe("photographs", [f"title={text}"]).title == text.strip()


def test_a_section_may_be_overridden_before_its_keys() -> None:
    train = load_recipe("photographs", ["train={batch_size: 2}", "train.steps=5"]).train
    assert (train.batch_size, train.steps, train.warmup_steps) == (2, 5, 0)


def test_a_key_that_is_missing_or_null_can_be_set(tmp_path: Path) -> None:
    name = written(tmp_path, "codebook: {replacement: null}\n")
    replacement = load_recipe(name, ["codebook.replacement.every=7"]).codebook.replacement
    assert replacement is not None
    assert replacement.every == 7


def test_the_recipe_of_a_run_is_read_back(tmp_path: Path) -> None:
    recipe = load_recipe("photographs").trial("two-level-naive", 3)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    assert load_trial(tmp_path) == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"seed": 1, "seed": 2}', "is damaged (the key 'seed' twice)"),
        (b'{"train": {"steps": 1, "steps": 1}}', "is damaged (the key 'steps' twice)"),
        (b'{"train": {"learning_rate": NaN}}', "is damaged (the number NaN)"),
        (b'{"seed": 1', "is damaged"),
        (b"\xff", "is damaged"),
        (b"[" * 100_000, "is damaged (nested too deeply)"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "is damaged"),
        (b'{"arm": "\\ud800"}', "is damaged (text that is not Unicode)"),
        (b"[]", "is not a mapping"),
        (b'{"seed": "1"}', "'seed' is '1'"),
        (b'{"seed": -1}', "'seed' is -1"),
        (b'{"sead": 1}', "did you mean 'seed'?"),
        (b" " * 2**19, "larger than 256 KiB"),
    ],
)
def test_a_damaged_recipe_of_a_run_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(FlatvqError) as error:
        load_trial(tmp_path)
    assert message in str(error.value)
    assert str(tmp_path / "recipe.json") in str(error.value)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: str(path.relative_to(ROOT)))
def test_committed_recipes_are_valid(path: Path) -> None:
    assert load_recipe(str(path)).arms


@pytest.mark.parametrize("title", ["1e3", "yes", "2024-01-01", "a: b", "née", "~", "two\nlines"])
def test_the_recipe_that_a_study_writes_is_read_back(tmp_path: Path, title: str) -> None:
    recipe = parse(
        StudyRecipe, {"title": title, "arms": {"1": {}, "on": {}}, "train": {"learning_rate": 1e-5}}
    )
    assert load_recipe(written(tmp_path, dump_yaml(recipe.model_dump(mode="json")))) == recipe


def test_a_dumped_recipe_is_unchanged() -> None:
    recipe = load_recipe("imagenet-64")
    tree = json.loads(recipe.model_dump_json())
    assert parse(StudyRecipe, tree) == recipe
    assert parse(TrialRecipe, recipe.trial("single-both", 0).model_dump()) == recipe.trial("single-both", 0)
