"""The commands as a user types them: output, files, errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flatvq.cli import plan_tables, tables
from flatvq.recipe import load_recipe, shipped_recipes
from flatvq.study import planned_arms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(random.integers(0, 256, (40, 44, 3), np.uint8)).save(pictures / f"{number}.png")
    return pictures


@pytest.fixture
def flatvq(monkeypatch, run_flatvq, tmp_path):
    """Run a command in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    return run_flatvq


def recipe_file(folder: Path, **extra: object) -> str:
    """Write a recipe of two arms on a folder of images; return its path."""
    import yaml

    tree = {
        "data": {"source": "folder", "path": str(folder), "crop": 32, "validation_share": 0.3},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 2}},
        "train": {"steps": 6, "batch_size": 2, "validate_every": 3},
        "evaluate": {"samples": 1},
        "seeds": [0, 1],
        "workers": 2,
        "arms": {
            "healthy": {},
            "naive": {"codebook": {"init": {"kind": "random"}, "replacement": None}},
        },
        **extra,
    }
    path = folder.parent / "mine.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return str(path)


@pytest.mark.processes
def test_a_study_from_recipe_to_report_and_again(flatvq, folder: Path, tmp_path: Path) -> None:
    name = recipe_file(folder)
    code, out, err = flatvq("study", name, "--out", "made")
    assert (code, err) == (0, "")
    assert "Report: made/report.html" in out
    study = json.loads((tmp_path / "made" / "study.json").read_text())
    assert [(t["arm"], t["seed"], t["status"]) for t in study["trials"]] == [
        ("healthy", 0, "done"),
        ("naive", 0, "done"),
        ("healthy", 1, "done"),
        ("naive", 1, "done"),
    ]
    (comparison,) = study["comparisons"]
    by_arm = {arm: [t["psnr_db"] for t in study["trials"] if t["arm"] == arm] for arm in ("healthy", "naive")}
    assert comparison["difference"] == pytest.approx(np.mean(by_arm["healthy"]) - np.mean(by_arm["naive"]))
    for trial in study["trials"]:
        metrics = json.loads((tmp_path / "made" / trial["run"] / "metrics.json").read_text())
        assert trial["psnr_db"] == metrics["psnr_db"]
    # A second call trains nothing: every run's records stay as they are.
    records = {path: path.read_bytes() for path in (tmp_path / "made").rglob("records.jsonl")}
    assert flatvq("study", name, "--out", "made")[0] == 0
    assert {path: path.read_bytes() for path in (tmp_path / "made").rglob("records.jsonl")} == records


@pytest.mark.slow
def test_a_failed_trial_is_recorded_and_the_others_finish(flatvq, folder: Path, tmp_path: Path) -> None:
    arms = {"sound": {}, "hot": {"train": {"learning_rate": 1e18}}}
    name = recipe_file(folder, arms=arms, seeds=[0], compare=[["hot", "sound"]])
    code, out, _ = flatvq("study", name, "--out", "made")
    assert code == 1
    study = json.loads((tmp_path / "made" / "study.json").read_text())
    status = {trial["arm"]: trial for trial in study["trials"]}
    assert status["sound"]["status"] == "done"
    assert status["hot"]["status"] == "failed"
    assert "training diverged at step" in status["hot"]["error"]
    assert status["hot"]["psnr_db"] is None
    assert "training diverged" in " ".join(out.split())
    assert "training diverged" in (tmp_path / "made" / "report.html").read_text()


def test_a_dry_run_trains_nothing(flatvq, folder: Path, tmp_path: Path) -> None:
    code, out, _ = flatvq("study", recipe_file(folder), "--dry-run")
    assert code == 0
    assert "2 arms, 6 steps a trial; looks after 2 seeds" in out
    assert "Estimated time" in out
    assert not (tmp_path / "studies").exists()


def test_an_unmatched_study_is_rejected(flatvq, folder: Path) -> None:
    larger = {"model": {"levels": [{"codebook_size": 64, "code_dim": 4}]}}
    code, _, err = flatvq("study", recipe_file(folder, arms={"small": {}, "large": larger}))
    # 6 bits an index against 4.
    assert code == 2
    assert "arm 'large' does not match 'small': bits +50.0%" in err
    assert err.count("\n") == 1


def test_train_evaluate_and_resume(flatvq, folder: Path, tmp_path: Path) -> None:
    code, out, err = flatvq("train", recipe_file(folder), "--arm", "naive", "--seed", "5", "--out", "run")
    assert (code, err) == (0, "")
    assert "psnr_db" in out
    code, out, _ = flatvq("evaluate", "run", "--data", str(folder), "--json")
    result = json.loads(out)
    assert (code, result["images"], result["crop"]) == (0, 12, 32)
    recorded = json.loads((tmp_path / "run" / "metrics.json").read_text())
    missing = recorded.keys() - result.keys()
    assert not missing, "evaluate prints the same figures as the run's own record"
    code, out, _ = flatvq("evaluate", "run/model", "--data", str(folder), "--full", "--json")
    whole = json.loads(out)
    assert (whole["crop"], whole["evaluation_protocol"]) == (None, "flatvq-1/whole/own-size")
    assert flatvq("train", "run")[0] == 0, "a finished run ends at once"


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("command", ["train", "study", "tune"])
def test_a_start_with_a_wrong_path_does_not_block_its_folder(flatvq, folder: Path, command: str) -> None:
    search = {"trials": 1, "length": 0.5, "confirm_seeds": [7, 8]}
    words = [command, recipe_file(folder, seeds=[0], tune=search), "--out", "made"]
    code, _, err = flatvq(*words, "--set", "data.path=nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "no folder at 'nowhere'" in err
    assert flatvq(*words)[0] == 0


def test_train_names_unreadable_files(flatvq, folder: Path, tmp_path: Path) -> None:
    (folder / "empty.png").write_bytes(b"")
    code, out, _ = flatvq("train", recipe_file(folder), "--out", "run")
    assert code == 0
    assert "unreadable: empty.png: " in out
    files = json.loads((tmp_path / "run" / "metrics.json").read_text())["files"]
    assert [(file["name"], file["status"]) for file in files] == [("empty.png", "unreadable")]


def test_only_the_first_of_many_unused_files_are_named(capsys) -> None:
    file = {"status": "skipped", "reason": "no image"}
    files = [{**file, "name": f"{number}.txt"} for number in range(27)]
    tables.show_metrics({"levels": [], "files": files}, Path("run"))
    out = capsys.readouterr().out
    assert "19.txt: no image\n" in out
    assert "20.txt" not in out
    assert out.endswith("and 7 more files\n")


def test_capacities_of_many_arms_are_printed_in_several_tables(monkeypatch, capsys) -> None:
    monkeypatch.setattr(plan_tables.console, "width", 80)
    arms = planned_arms(load_recipe("imagenet-64"))
    plan_tables.show_capacity("many", arms)
    out = capsys.readouterr().out
    assert out.count("Capacity of many") > 1
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out  # nothing is cut off
    for arm in arms:
        assert re.search(rf"(^|\s){arm.name}(\s|$)", out, re.MULTILINE)
    bits = {f"{arm.capacity.bits_per_image:,.1f} ({arm.residuals['bits']:+.1%})" for arm in arms}
    assert all(text in out for text in bits)


def test_capacity_report_and_recipes(flatvq, folder: Path) -> None:
    code, out, _ = flatvq("capacity", "imagenet-256", "--json")
    arms = {arm["name"]: arm for arm in json.loads(out)["imagenet-256"]}
    assert code == 0
    assert arms["single-level-healthy"]["level_table"][0]["codebook_size"] == 5793
    # The published model of 1,343,491 parameters, with codes of 8 instead of 64 dimensions.
    fewer = 2 * 56 * (128 + 1) + (64 * 64 * 16 + 64) - (8 * 8 * 16 + 8) + 2 * 56 * 128 * 9
    assert arms["two-level-healthy"]["network_parameters"] == 1_343_491 - fewer
    assert arms["two-level-healthy"]["parameters"] == 1_343_491 - fewer + 2 * 1024 * 8
    code, out, _ = flatvq("capacity", "photographs", recipe_file(folder))
    assert code == 0
    assert "Capacity of photographs" in out
    code, out, _ = flatvq("recipes")
    assert all(name in out for name in ("photographs", "imagenet-sample", "imagenet-256"))
    assert "One MSE over all crops" not in out, "a comment on a key"
    # Without a terminal, lines have 80 characters; commands are not wrapped.
    assert all(len(line) <= 80 or line.startswith("  flatvq study ") for line in out.splitlines())
    assert all(line.startswith("  ") or line in shipped_recipes() for line in out.splitlines())
    assert flatvq("recipes", "photographs")[1].startswith("# flatvq study photographs")
    assert "codebook.replacement.fraction" in flatvq("recipes", "--fields")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study", "photograph"], "no recipe is named 'photograph': did you mean 'photographs'?"),
        (["study", "absent.yaml"], "cannot read recipe 'absent.yaml'"),
        (["study", "photographs", "--set", "train.setps=5"], "did you mean 'steps'?"),
        (["study", "photographs", "--set", "train.steps=many"], "'train.steps' is 'many'"),
        (["study", "photographs", "--set", "train.steps"], "override 'train.steps' is not key=value"),
        (["study", "photographs", "--set", "data.crop=20"], "data.crop must be a multiple of 8"),
        (
            ["study", "photographs", "--set", "data.path=mine"],
            "path=mine needs source=folder, huggingface or shards",
        ),
        (["study", "photographs", "--set", "seeds=[1, 1]"], "seeds must differ"),
        (
            ["study", "photographs", "--set", "seeds=2"],
            "'seeds' is 2 in override 'seeds=2': write a list, such as [2]",
        ),
        (["study", "photographs", "--set", "seeds={a: 1}"], "write a list"),
        (["study", "photographs", "--set", "model.levels=[]"], "give at least 1"),
        (["study", "photographs", "--set", "codebook.init=kmeans"], "with the keys distribution, kind"),
        (["study", "photographs", "--set", "arms=5"], "'arms' is 5"),
        (["study", "photographs", "--set", "train.learning_rate=inf"], "write a finite number"),
        (["train", "photographs", "--arm", "tow-level-naive"], "did you mean 'two-level-naive'?"),
        (["evaluate", "nowhere", "--data", "."], "nowhere"),
        (["report", "nowhere"], "study.json"),
        (["capacity", "photographs", "nothing"], "no recipe is named 'nothing'"),
        (["study", "photographs", "--set", "data.source=folder", "--set", "data.path=gone"], "no folder at"),
        (
            ["train", "photographs", "--seed", "-1"],
            "--seed is -1: give a number from 0 to 2^63 - 1",
        ),
        (["train", "photographs", "--seed", "x"], "--seed is x: write a whole number"),
        (["train", "photographs", "--seed", "9" * 20], f"--seed is {'9' * 20}: give a number from 0"),
        (["evaluate", "run", "--data", ".", "--crop", "5"], "--crop is 5: input should be greater than or"),
        (["evaluate", "run"], "missing option '--data': see `flatvq evaluate --help`"),
        (["train"], "missing argument 'recipe': see `flatvq train --help`"),
        (
            ["train", "photographs", "more"],
            "got unexpected extra argument(s) (more): see `flatvq train --help`",
        ),
        (["train", "photographs", "--sed", "1"], "no option is named '--sed': did you mean '--seed'?"),
        (["--sed"], "no option is named '--sed': known are --help, --version"),
        (["trian", "photographs"], "no command is named 'trian': did you mean 'train'?"),
        (["train", "."], "'.' is a folder without recipe.json: give the folder of a run, or a recipe"),
        (["study", "."], "'.' is a folder: name a shipped recipe or a .yaml file"),
        (
            ["train", "/nonexistent/"],
            "no file or folder at '/nonexistent/': name a shipped recipe or a .yaml file",
        ),
        (["study", "/dev/null"], "'/dev/null' is not a .yaml file"),
        (["study", "xyz"], "imagenet-sample, photographs; or give a .yaml file"),
    ],
)
def test_invalid_input_is_one_line_and_exit_code_2(flatvq, words: list[str], message: str) -> None:
    code, _, err = flatvq(*words)
    assert code == 2
    assert message in err
    assert err.startswith("flatvq: ")
    assert err.count("\n") == 1


def test_the_help_of_evaluate_names_the_files_of_weights(flatvq) -> None:
    from flatvq.evaluate import perceptual

    words = set(flatvq("evaluate", "--help")[1].replace("│", " ").split())
    files = {perceptual._ALEXNET, perceptual._HEADS, perceptual._INCEPTION}
    assert files <= words


def test_the_help_shows_no_types_of_flags_and_arguments(flatvq) -> None:
    _, out, _ = flatvq("capacity", "--help")
    assert "flatvq capacity [OPTIONS] RECIPES..." in out
    assert "<bool>" not in out
    assert "<list" not in out


def test_no_command_prints_the_help(flatvq) -> None:
    _, out, err = flatvq()
    assert "Commands" in out + err


def test_a_run_that_is_not_finished_is_named(flatvq, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    message = "flatvq: 'run' is not finished: finish it with `flatvq train run`\n"
    assert flatvq("evaluate", "run", "--data", ".") == (2, "", message)
    assert flatvq("levels", "run") == (2, "", message)


def test_a_study_that_is_not_finished_is_named(flatvq, tmp_path: Path) -> None:
    (tmp_path / "made" / "runs").mkdir(parents=True)
    message = "flatvq: the study in 'made' is not finished: run `flatvq study` again\n"
    assert flatvq("report", "made") == (2, "", message)
    assert flatvq("pack", "made", "packed") == (2, "", message)
    assert not (tmp_path / "packed").exists()


def test_help_needs_no_torch() -> None:
    """`--help` imports no heavy libraries."""
    script = (
        "import sys; sys.argv = ['flatvq', '--help']\n"
        "from flatvq.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'scipy', 'faiss', 'pydantic', 'numpy', 'PIL'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    for command in ("study", "train", "evaluate", "capacity", "report", "recipes"):
        assert command in done.stdout


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    "sign", ["recipe.json", "checkpoints"], ids=["while trials start", "while they train"]
)
def test_trials_end_when_their_study_is_killed(folder: Path, tmp_path: Path, sign: str) -> None:
    name = recipe_file(folder, train={"steps": 100_000, "batch_size": 2, "checkpoint_every": 50})
    command = [sys.executable, "-m", "flatvq", "study", name, "--out", str(tmp_path / "made")]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    runs = tmp_path / "made" / "runs"
    try:
        while not list(runs.glob(f"*/*/{sign}")):
            assert study.poll() is None
            time.sleep(0.05)
        # Where trials only start, none need be there yet; they would come a moment later.
        assert sign == "recipe.json" or _workers(str(runs))
    finally:
        study.kill()
        study.wait()
    deadline = time.monotonic() + 60
    time.sleep(3 if sign == "recipe.json" else 0)
    while (alive := _workers(str(runs))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive


def _workers(folder: str) -> list[str]:
    """Return the logs in a folder that running processes write to: one per trial."""
    logs = []
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = str(output.readlink())
        except OSError:
            continue
        if target.startswith(folder) and target.endswith("log.txt"):
            logs.append(target)
    return logs


@pytest.mark.slow
def test_levels_compares_a_hierarchy_with_the_single_level_arm(flatvq, folder: Path, tmp_path: Path) -> None:
    level = {"codebook_size": 4, "code_dim": 4}
    arms = {
        "two": {"model": {"levels": [level, {**level, "downsample": 2}]}},
        "one": {"model": {"levels": [{**level, "codebook_size": 8}]}},
    }
    name = recipe_file(folder, arms=arms, seeds=[0], match={"unmatched": ["one"]})
    assert flatvq("study", name, "--out", "made")[0] == 0
    (two,), (one,) = ((tmp_path / "made" / "runs" / arm).iterdir() for arm in ("two", "one"))
    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}
    code, out, err = flatvq("levels", str(two), "--steps", "4")
    assert (code, err) == (0, "")
    assert "without level 1" in out
    analysis = json.loads((two / "levels.json").read_text())
    assert (
        analysis["steps"],
        analysis["single_level_counterpart"]["arm"],
        analysis["single_level_counterpart"]["run"],
    ) == (4, "one", one.name)
    # 32 px: 4 x 4 cells of 2 bits on top; 8 x 8 cells of 3 bits in place of 2 on the single level.
    assert (analysis["marginal_gain"][0]["bits"], analysis["single_level_counterpart"]["bits"]) == (32, 64)
    assert [path for path, content in before.items() if path.read_bytes() != content] == []
    code, out, _ = flatvq("levels", str(two), "--steps", "4", "--json")
    assert json.loads(out) == analysis
    code, _, err = flatvq("levels", str(one))
    assert (code, err.count("\n")) == (2, 1)
    assert "has one level" in err
    code, _, err = flatvq("levels", str(folder))
    assert (code, err.count("\n")) == (2, 1)


def test_a_packed_study_holds_the_records_of_its_runs(flatvq, folder: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    assert flatvq("study", recipe_file(folder, seeds=[0]), "--out", "made")[0] == 0
    code, out, err = flatvq("pack", "made", "packed")
    assert (code, err) == (0, "")
    assert "history.parquet" in out
    packed, made = tmp_path / "packed", tmp_path / "made"
    assert (packed / "study.json").read_bytes() == (made / "study.json").read_bytes()
    recipes = json.loads((packed / "recipes.json").read_text())
    images, history, codes = (
        pq.read_table(packed / f"{name}.parquet").to_pylist() for name in ("images", "history", "codes")
    )
    for trial in json.loads((made / "study.json").read_text())["trials"]:
        recipe = json.loads((made / trial["run"] / "recipe.json").read_text())
        assert recipe == {**recipes[trial["arm"]], "seed": trial["seed"]}
        mine = [row for row in images if row["arm"] == trial["arm"]]
        assert np.mean([row["psnr_db"] for row in mine]) == pytest.approx(trial["psnr_db"], abs=1e-4)
        (counts,) = [row["counts"] for row in codes if row["arm"] == trial["arm"]]
        assert counts == json.loads((made / trial["run"] / "codes.json").read_text())["levels"][0]["counts"]
        lines = (made / trial["run"] / "records.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        values = {
            (row["kind"], row["step"], row["level"], row["name"]): row["value"]
            for row in history
            if row["arm"] == trial["arm"]
        }
        validations = [record for record in records if record["kind"] == "validation"]
        assert validations
        for validation in validations:
            assert values["validation", validation["step"], None, "psnr_db"] == pytest.approx(
                validation["psnr_db"]
            )
            level = values["validation", validation["step"], 0, "perplexity"]
            assert level == pytest.approx(validation["levels"][0]["perplexity"])
        events = [record for record in records if record["kind"] == "replacement"]
        assert bool(events) == (trial["arm"] == "healthy")
        for event in events:
            assert values["replacement", event["step"], 0, "replaced"] == event["replaced"]
    code, _, err = flatvq("pack", "nowhere", "packed")
    assert (code, err.count("\n")) == (2, 1)
