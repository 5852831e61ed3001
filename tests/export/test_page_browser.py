"""The exported page in a browser: its indices and pixels are those of flatvq, and it requests nothing."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.evaluate import fidelity
from flatvq.export.page import find_runtime
from flatvq.export.page.weights import rounded
from flatvq.levels.codes import code_vectors_of
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe
from flatvq.tokenizers import VQVAETokenizer, load

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = Path(__file__).parents[2]
STUDY = ROOT / "results" / "headline" / "study.json"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUNTIME = Path(os.environ.get("FLATVQ_ONNXRUNTIME_WEB", ROOT))


def runtime_missing() -> str:
    """Return why the test cannot run."""
    try:
        find_runtime(RUNTIME)
    except FlatvqError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.skipif(bool(runtime_missing()), reason=runtime_missing()),
]
SIDE = 64
# Elements that extend beyond the right edge of the page, except inside scrollable boxes.
OVERFLOW = """() => [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.tagName + '.' + (e.getAttribute('class') || ''))"""
# Controls and pictures without a name for screen readers.
UNNAMED = """() => [...document.querySelectorAll('button, select, input:not([hidden]), canvas')]
  .filter(e => e.getAttribute('aria-hidden') !== 'true' && !e.getAttribute('aria-label'))
  .filter(e => !e.labels?.length && !e.textContent.trim()).map(e => e.outerHTML)"""


def photograph(height: int, width: int) -> np.ndarray:
    """Return a picture of smooth areas, edges and noise, uint8 [H, W, 3]."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = random.integers(0, 256, 3)
    return np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[VQVAETokenizer, Path]:
    """A hierarchy whose codes are latents of a picture, so that its indices vary; and its folder."""
    torch.manual_seed(0)
    levels = [
        {"downsample": 4, "codebook_size": 48, "code_dim": 8},
        {"downsample": 2, "codebook_size": 32, "code_dim": 8},
    ]
    recipe = ModelRecipe(width=8, residual_width=4, residual_blocks=1, levels=levels, hierarchy="conditioned")
    model = build_vqvae(recipe, CodebookRecipe()).eval()
    pixels = torch.from_numpy(photograph(128, 128)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        for level in (1, 0):
            latents = model(pixels).levels[level].latents[0].flatten(1).T
            chosen = torch.randperm(len(latents))[: recipe.levels[level].codebook_size]
            model.quantizers[level].codebook.weight.copy_(latents[chosen])
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, model, {"model": recipe.model_dump(mode="json"), "codebook": {}})
    return load(folder), folder


@pytest.fixture(scope="module")
def page_file(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of which one arm has a tokenizer."""
    study = tmp_path_factory.mktemp("study")
    shutil.copy(STUDY, study)
    shutil.copytree(tokenizer[1], study / "models" / "conditioned-seed-1000")
    file = study / "page.html"
    command = [sys.executable, "-m", "flatvq", "export", study, "--to", "page", "--json"]
    result = subprocess.run([*command, "--onnxruntime-web", RUNTIME], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["files"] == [str(file)]
    (arm,) = record["arms"]
    assert arm["parity"]["differing"] <= arm["parity"]["indices"] // 1000
    assert file.stat().st_size - arm["bytes"] < 9_000_000 - 2_000_000
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


def opened(browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> Any:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.troubles, page.requests = [], []
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(file.as_uri())
    # `wait_for_function` is refused by the page's security policy.
    page.locator("#status").filter(has_text="Ready").wait_for(timeout=60_000)
    return page


def show(page: Any, picture: Path, done: str = "Done") -> None:
    page.set_input_files("#file", picture)
    page.locator("#status").filter(has_text=done).wait_for(timeout=60_000)


def drop(page: Any, picture: Path) -> None:
    """Drop a file on the page, as from a file manager."""
    content = base64.b64encode(picture.read_bytes()).decode()
    script = """async ([content, name]) => {
      const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
      const dropped = new DataTransfer();
      dropped.items.add(new File([bytes], name));
      document.getElementById('drop').dispatchEvent(
        new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: dropped }));
    }"""
    page.evaluate(script, [content, picture.name])
    page.locator("#status").filter(has_text="Done").wait_for(timeout=60_000)


def saved(page: Any, button: str) -> bytes:
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path()).read_bytes()


@torch.no_grad()
def test_indices_and_pixels_are_those_of_flatvq(
    browser: Any, page_file: Path, tokenizer: Any, tmp_path: Path
) -> None:
    Image.fromarray(photograph(211, 301)).save(tmp_path / "picture.png")
    page = opened(browser, page_file)
    page.locator("#size").select_option(label=f"{SIDE} × {SIDE} pixels")
    show(page, tmp_path / "picture.png")
    # The square: Pillow's own bicubic filter and the centre crop.
    shorter = Image.fromarray(photograph(211, 301)).resize(
        (round(301 * SIDE / 211), SIDE), Image.Resampling.BICUBIC
    )
    left = (shorter.width - SIDE) // 2
    square = np.asarray(shorter)[:, left : left + SIDE]
    url = page.evaluate("document.getElementById('original').toDataURL()")
    shown = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    assert np.array_equal(np.asarray(shown), square)
    # The indices: those of the tokenizer with the rounded weights, but for near-ties.
    model = rounded(tokenizer[0])
    images = torch.from_numpy(square.copy()).permute(2, 0, 1)[None].float() / 255
    record = json.loads(saved(page, ".save-codes"))
    assert (record["tokenizer"], record["id"]) == ("conditioned", model.id)
    indices = [torch.tensor(level["indices"]).view(1, *level["shape"]) for level in record["levels"]]
    expected = model.encode(images)
    assert [grid.shape for grid in indices] == [grid.shape for grid in expected]
    assert all(len(grid.unique()) > 10 for grid in expected)
    assert sum(int((a != b).sum()) for a, b in zip(indices, expected, strict=True)) <= 1
    # The reconstruction, to one level of 255.
    decoded = fidelity.as_stored(model.decode(indices))
    pixels = np.asarray(Image.open(io.BytesIO(saved(page, ".save-picture"))).convert("RGB")).astype(int)
    assert np.abs(pixels - decoded[0].permute(1, 2, 0).mul(255).round().numpy()).max() <= 1
    assert float(page.locator("#row-0 .psnr").inner_text()) == pytest.approx(
        float(fidelity.psnr(decoded, images, data_range=1.0)), abs=0.01
    )
    bits = sum(grid[0].numel() * np.log2(size) for grid, size in zip(indices, (48, 32), strict=True))
    assert page.locator("#row-0 .bits").inner_text() == f"{bits:,.0f}"
    assert float(page.locator("#row-0 .bpp").inner_text()) == pytest.approx(bits / SIDE**2, abs=0.001)
    # A level that is switched off is replaced by the mean of its code vectors.
    for level in range(2):
        vectors = code_vectors_of(model, indices)
        vectors[level] = vectors[level].mean(dim=(2, 3), keepdim=True).expand_as(vectors[level])
        stored = fidelity.as_stored(model.decode_code_vectors(vectors))
        without = float(fidelity.psnr(stored, images, data_range=1.0))
        cell = page.locator(".levels .without").nth(level)
        assert float(cell.inner_text()) == pytest.approx(without, abs=0.01)
        switch = page.get_by_role("checkbox", name=f"level {level}")
        switch.focus()
        page.keyboard.press("Space")
        page.locator(".now").filter(has_text=f"without level {level}").wait_for()
        assert page.locator(".now").inner_text().startswith(cell.inner_text())
        page.keyboard.press("Space")
        page.locator(".now").filter(has_not_text="without").wait_for()
    assert page.troubles == []
    page.close()


def test_an_earlier_picture_does_not_replace_a_later_one(
    browser: Any, page_file: Path, tmp_path: Path
) -> None:
    Image.fromarray(photograph(2400, 3200)).save(tmp_path / "slow.png")
    Image.fromarray(photograph(1, 9000)).save(tmp_path / "narrow.png")  # at 64 rows: 576,000 columns
    page = opened(browser, page_file)
    page.locator("#size").select_option(label=f"{SIDE} × {SIDE} pixels")
    files = [
        [base64.b64encode((tmp_path / name).read_bytes()).decode(), name]
        for name in ("slow.png", "narrow.png")
    ]
    # The page decodes both at the same time. `decoded` counts those that are finished.
    script = """async (files) => {
      const original = createImageBitmap;
      window.decoded = 0;
      window.createImageBitmap = async (...values) => {
        const bitmap = await original(...values);
        setTimeout(() => { document.body.dataset.decoded = ++window.decoded; }, 0);
        return bitmap;
      };
      for (const [content, name] of files) {
        const dropped = new DataTransfer();
        dropped.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
        document.getElementById('drop').dispatchEvent(
          new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: dropped }));
      }
    }"""
    page.evaluate(script, files)
    page.locator("body[data-decoded='2']").wait_for(timeout=60_000)
    page.locator("#status").filter(has_text="Done").wait_for(timeout=60_000)
    assert page.locator("#file-note").inner_text().startswith("narrow.png, 9000 × 1 pixels.")
    # A new picture is shown with all levels again.
    page.get_by_role("checkbox", name="level 0").click()
    page.locator(".now").filter(has_text="without level 0").wait_for()
    assert page.locator("tr.off").count() == 1
    show(page, tmp_path / "slow.png", "Done")
    page.locator("#file-note").filter(has_text="slow.png").wait_for()
    page.locator(".now").filter(has_not_text="without").wait_for()
    assert page.locator("tr.off").count() == 0
    assert page.troubles == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_requests_nothing_and_fits(
    browser: Any, page_file: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    # A picture that is stored on its side, and a file that is no picture.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph(90, 200)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page = opened(browser, page_file, width, scheme)
    show(page, tmp_path / "broken.png", "Choose another picture")
    assert "broken.png is not a picture" in page.get_by_role("alert").inner_text()
    drop(page, tmp_path / "turned.jpg")
    assert page.get_by_role("alert").count() == 0
    assert "90 × 200 pixels" in page.locator("#file-note").inner_text()
    verdict = json.loads(STUDY.read_text())["verdict"]["sentence"]
    # The verdict may be in two paragraphs.
    assert verdict in " ".join(page.locator("#verdict").inner_text().split())
    page.locator(".flip").focus()
    page.keyboard.press("Enter")
    assert page.locator(".flip").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Use a test chart").click()
    page.locator("#file-note").filter(has_text="test chart").wait_for(timeout=60_000)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(UNNAMED) == []
    assert [url for url in page.requests if not url.startswith(("data:", "blob:", "file:"))] == []
    assert page.troubles == []
    page.close()
