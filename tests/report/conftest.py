"""A fabricated study folder with the layout of docs/records.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from math import exp, log, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

STEPS = 600
CROP = 64

# name: healthy, levels as (grid, K, share of codes in use), final PSNR.
ARMS: dict[str, tuple[bool, list[tuple[int, int, float]], float]] = {
    "two-level-naive": (False, [(16, 256, 0.06), (8, 256, 0.24)], 23.2),
    "two-level-healthy": (True, [(16, 256, 1.0), (8, 256, 0.99)], 25.1),
    "single-level-naive": (False, [(16, 1024, 0.04)], 22.0),
    "single-level-healthy": (True, [(16, 1024, 0.97)], 25.12),
}
PAIRS = [
    ("hierarchy", "single-level-naive", "two-level-naive", "worse"),
    ("hierarchy", "single-level-healthy", "two-level-healthy", "equivalent"),
    ("intervention", "two-level-healthy", "two-level-naive", "better"),
    ("intervention", "single-level-healthy", "single-level-naive", "better"),
]


def arm_entry(name: str) -> dict[str, Any]:
    healthy, levels, _ = ARMS[name]
    bits = sum(grid * grid * log2(size) for grid, size, _ in levels)
    codebooks = sum(64 * size for _, size, _ in levels)
    searches = sum(64 * grid * grid * size for grid, size, _ in levels)
    return {
        "name": name,
        "levels": len(levels),
        "healthy": healthy,
        "bits_per_image": bits,
        "bits_per_pixel": bits / CROP**2,
        "parameters": (826_691 if len(levels) == 1 else 1_343_491) + codebooks,
        "network_parameters": 826_691 if len(levels) == 1 else 1_343_491,
        "codebook_parameters": codebooks,
        "multiply_adds": (215_900_160 if len(levels) == 1 else 263_192_576) + searches,
        "network_multiply_adds": 215_900_160 if len(levels) == 1 else 263_192_576,
        "search_multiply_adds": searches,
        "level_table": [{"grid": [g, g], "codebook_size": k, "code_dim": 64} for g, k, _ in levels],
    }


def pooled_counts(rng: np.random.Generator, grid: int, size: int, share: float) -> list[int]:
    used = max(1, round(size * share))
    weights = np.sort(rng.gamma(1.2, size=used))[::-1]
    counts = rng.multinomial(200 * grid * grid, weights / weights.sum())
    return [int(count) for count in rng.permutation(np.concatenate([counts, np.zeros(size - used, int)]))]


def level_metrics(counts: Sequence[int]) -> dict[str, Any]:
    shares = sorted((count / sum(counts) for count in counts if count), reverse=True)
    return {
        "codebook_size": len(counts),
        "usage": len(shares) / len(counts),
        "perplexity": exp(-sum(share * log(share) for share in shares)),
        "used_codes": len(shares),
        "codes_for_99": int(np.searchsorted(np.cumsum(shares), 0.99) + 1),
        "quantization_error": 0.11,
    }


def records(rng: np.random.Generator, name: str, final: float) -> list[dict[str, Any]]:
    healthy, levels, _ = ARMS[name]
    rows: list[dict[str, Any]] = [{"kind": "start", "step": 0, "device": "cpu", "precision": "float32"}]
    for index, (grid, size, _) in enumerate(levels):
        method = "KMeansInit" if healthy else "RandomInit"
        gathered = min(8 * size, 32 * grid * grid) if healthy else 0
        rows.append(
            {"kind": "init", "step": 0, "level": index, "method": method, "vectors": gathered, "filled": 0}
        )
    for step in range(10, STEPS + 1, 10):
        loss = 0.06 * exp(-step / 90) + 10 ** (-final / 10) + float(rng.normal(0, 1e-4))
        rows.append({"kind": "train", "step": step, "loss": loss, "reconstruction": 0.9 * loss})
        if step % 50 == 0:
            psnr = final - 9 * exp(-step / 110) + float(rng.normal(0, 0.05))
            rows.append({"kind": "validation", "step": step, "psnr_db": psnr, "mse": 10 ** (-psnr / 10)})
            grown = [0.5 * size * share * (1 - exp(-step / 150)) for _, size, share in levels]
            rows[-1]["levels"] = [
                {"usage": p / s[1], "perplexity": p} for p, s in zip(grown, levels, strict=True)
            ]
        if healthy and step % 50 == 0 and step <= 480:
            for index, (_, size, _) in enumerate(levels):
                inactive = int(size * 0.3 * exp(-step / 160))
                survived = None if step == 50 else 1 - 0.5 * exp(-step / 200)
                row = {
                    "kind": "replacement",
                    "step": step,
                    "level": index,
                    "inactive": inactive,
                    "replaced": inactive,
                }
                rows.append({**row, "survived": survived})
    return [*rows, {"kind": "stop", "step": STEPS, "reason": "finished"}]


def picture(crop: int) -> Image.Image:
    rows, columns = np.mgrid[0:CROP, 0:CROP]
    channels = [np.sin((rows * (i + crop % 3) + columns * (3 - i)) / (9 + 4 * crop)) for i in range(3)]
    image = Image.fromarray(np.uint8(127 + 90 * np.stack(channels, axis=2)))
    draw = ImageDraw.Draw(image)
    draw.ellipse((8 + 5 * crop, 10, 34 + 5 * crop, 40), fill=(200 - 20 * crop, 60 + 25 * crop, 90))
    draw.line((0, 60 - 7 * crop, 63, 20 + 5 * crop), fill=(250, 240, 220), width=2)
    return image


def write_samples(folder: Path, rng: np.random.Generator, final: float, crops: int) -> None:
    folder.mkdir()
    for crop in range(crops):
        image = picture(crop)
        soft = np.asarray(image.filter(ImageFilter.GaussianBlur(0.6 if final > 24 else 1.6)), dtype=float)
        noisy = np.clip(soft + rng.normal(0, 255 * 10 ** (-final / 20) / 2, soft.shape), 0, 255)
        image.save(folder / f"{crop}-original.png")
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{crop}-reconstruction.png")


def write_trial(study: Path, name: str, seed: int, crops: int) -> dict[str, Any]:
    _, levels, final = ARMS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    psnr = final + float(rng.normal(0, 0.015))
    run = f"runs/{name}/seed-{seed}"
    folder = study / run
    folder.mkdir(parents=True)
    lines = [json.dumps(row) for row in records(rng, name, psnr)]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    counts = [pooled_counts(rng, *level) for level in levels]
    codes = {"levels": [{"codebook_size": len(c), "counts": c} for c in counts]}
    (folder / "codes.json").write_text(json.dumps(codes))
    write_samples(folder / "samples", rng, psnr, crops)
    table = [level_metrics(level) for level in counts]
    bits = sum(grid * grid * log2(m["perplexity"]) for (grid, _, _), m in zip(levels, table, strict=True))
    return {
        "arm": name, "seed": seed, "status": "done", "run": run, "error": None, "seconds": 61.5,
        "seconds_per_step": 0.04 + 0.0015 * seed if ARMS[name][0] else None,
        "psnr_db": psnr, "ssim": 0.6 + psnr / 100, "mse": 10 ** (-psnr / 10), "ms_ssim": None,
        "psnr_of_mean_mse_db": psnr - 0.8, "effective_bits_per_image": bits, "levels": table,
    }  # fmt: skip


def comparison(trials: list[dict[str, Any]], question: str, a: str, b: str, verdict: str) -> dict[str, Any]:
    psnr = {(trial["arm"], trial["seed"]): trial["psnr_db"] for trial in trials}
    seeds = sorted({seed for _, seed in psnr})
    per_seed = [psnr[a, seed] - psnr[b, seed] for seed in seeds]
    mean = float(np.mean(per_seed))
    half = 2.92 * float(np.std(per_seed, ddof=1)) / len(seeds) ** 0.5 if len(seeds) > 1 else None
    return {
        "question": question, "a": a, "b": b, "metric": "psnr_db", "difference": mean,
        "interval90": None if half is None else [mean - half, mean + half], "margin": 0.1,
        "seeds": len(seeds), "per_seed": per_seed,
        "verdict": "inconclusive" if half is None else verdict,
    }  # fmt: skip


def fabricate_study(folder: Path, seeds: Sequence[int] = (0, 1, 2), crops: int = 6) -> Path:
    """Write a complete study and return its folder."""
    folder.mkdir(parents=True)
    trials = [write_trial(folder, name, seed, crops) for name in ARMS for seed in seeds]
    study = {
        "format": 3,
        "title": "Does a hierarchy reconstruct better than one level of the same bits?",
        "name": "photographs",
        "flatvq": "0.1.0",
        "created": "2026-03-01T12:00:00Z",
        "machine": {"processor": "a processor", "cores": 8, "torch": "2.13.0"},
        "evaluation_protocol": "flatvq-1",
        "margin_db": 0.1,
        "data": {
            "source": "photographs", "training_images": 24, "validation_images": 200, "crop": CROP,
            "held_out": "The right tenth of every photograph is held out and never trained on.",
            "files": [
                {"name": "a/cut.jpg", "split": "train", "status": "unreadable", "reason": "truncated file"},
                {"name": "a/grey.png", "split": "train", "status": "converted", "reason": "grey to RGB"},
                {"name": "b/tiny.png", "split": "validation", "status": "skipped", "reason": "too small"},
            ],
        },
        "match": {
            "reference": "two-level-healthy", "capacities": ["bits"], "tolerance": 0.01,
            "solved": {"single-level-naive": {"levels.0.codebook_size": [900, 1024]}},
            "residuals": {
                name: {"bits": 0.0, "parameters": 0.0 if "two" in name else -0.3847, "multiply_adds": 0.0021}
                for name in ARMS
            },
        },
        "arms": [arm_entry(name) for name in ARMS],
        "trials": trials,
        "comparisons": [comparison(trials, *pair) for pair in PAIRS],
        "verdict": {
            "sentence": "With naive codebooks, single-level-naive reconstructs worse than two-level-naive "
            "(-1.19 dB). With healthy codebooks, single-level-healthy is equivalent to two-level-healthy "
            "(+0.04 dB). The hierarchy's advantage went away with the collapse.",
            "naive": "worse",
            "healthy": "equivalent",
        },
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(study))
    return folder


class _Reader(HTMLParser):
    """Collects the tables of a page, by id, as rows of cell texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] | None = None
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id") or "", [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in {"td", "th"} and self._rows:
            self._rows[-1].append("")
            self._open = True
        elif tag in {"br", "span"} and self._open and self._rows:
            self._rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"} and self._rows:
            self._rows[-1][-1] = " ".join(self._rows[-1][-1].split())
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open and self._rows:
            self._rows[-1][-1] += data


@pytest.fixture
def fabricate() -> Callable[..., Path]:
    return fabricate_study


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    return fabricate_study(tmp_path / "study")


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], None]], None]:
    """Change a study.json in place."""

    def change(folder: Path, how: Callable[[Any], None]) -> None:
        path = folder / "study.json"
        tree = json.loads(path.read_text())
        how(tree)
        path.write_text(json.dumps(tree))

    return change


@pytest.fixture
def tables() -> Callable[[str], dict[str, list[list[str]]]]:
    """Return the tables of a page, by id."""

    def read(page: str) -> dict[str, list[list[str]]]:
        reader = _Reader()
        reader.feed(page)
        return reader.tables

    return read
