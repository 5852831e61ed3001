"""The commands `compress`, `decompress`, `inspect` and `prior` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.codec.tokenizers import image, tokenizer

from flatvq.codec import load_codec
from flatvq.data import ImageSet, Region, UnreadableImageError, open_folder
from flatvq.data.types import Pixels
from flatvq.model import save_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture
def work(monkeypatch, tmp_path: Path) -> Path:
    """Make the working folder one with a tokenizer and a folder of images."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("tok", 0), ("other", 1)):
        model = tokenizer(seed=seed)
        save_tokenizer(name, model, {"model": model.recipe.model_dump(mode="json"), "codebook": {}})
    (tmp_path / "pictures" / "dogs").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(image(30, 40, number)).save(f"pictures/{number}.png")
    Image.fromarray(image(9, 12)).save("pictures/dogs/3.bmp")
    Image.fromarray(image(9, 13)).save("pictures/dogs/3.png")
    return tmp_path


@pytest.fixture
def flatvq(run_flatvq, work):
    """Run a command in the working folder."""
    return run_flatvq


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array(opened)


def test_one_image(flatvq) -> None:
    code, out, err = flatvq("compress", "tok", "pictures/0.png")
    assert (code, err) == (0, "")
    size = Path("pictures/0.fvq").stat().st_size
    assert f"pictures/0.fvq: {size} bytes, {8 * size / 1200:.4f} bits per pixel, prior: none" in out
    # The image itself is not overwritten.
    code, _, err = flatvq("decompress", "tok", "pictures/0.fvq")
    assert code == 2
    assert "'pictures/0.png' exists" in err
    assert np.array_equal(pixels("pictures/0.png"), image(30, 40, 0))
    assert flatvq("decompress", "tok", "pictures/0.fvq", "-o", "back.png")[0] == 0
    expected = load_codec("tok").decompress(Path("pictures/0.fvq").read_bytes())
    assert np.array_equal(pixels("back.png"), expected)


def test_the_file_that_is_read_is_never_replaced(flatvq) -> None:
    before = Path("pictures/0.png").read_bytes()
    Path("pictures/0.png").rename("picture.fvq")
    code, _, err = flatvq("compress", "tok", "picture.fvq", "--force")
    assert (code, err.count("\n")) == (2, 1)
    assert "'picture.fvq' would replace the file that is read: give another --out" in err
    assert Path("picture.fvq").read_bytes() == before
    assert flatvq("compress", "tok", "picture.fvq", "-o", "small.fvq")[0] == 0
    Path("small.fvq").rename("small.png")
    small = Path("small.png").read_bytes()
    Path("link.png").symlink_to("small.png")
    for out in ("small.png", "link.png"):
        code, _, err = flatvq("decompress", "tok", "small.png", "--force", "-o", out)
        assert (code, Path("small.png").read_bytes()) == (2, small)
        assert "would replace the file that is read" in err


def test_a_decompressed_image_has_no_name_of_another_format(flatvq) -> None:
    assert flatvq("compress", "tok", "pictures/0.png")[0] == 0
    code, _, err = flatvq("decompress", "tok", "pictures/0.fvq", "-o", "back.jpg")
    assert (code, err.count("\n")) == (2, 1)
    assert "the name 'back.jpg' does not end with .png, the only format of decoded images: use .png" in err
    assert not Path("back.jpg").exists()
    for out in ("back.PNG", "back.1", "back"):
        assert flatvq("decompress", "tok", "pictures/0.fvq", "-o", out)[0] == 0
        with Image.open(out) as decoded:
            assert (decoded.format, decoded.size) == ("PNG", (40, 30))


def test_a_folder_becomes_a_collection_with_its_names(flatvq) -> None:
    assert flatvq("compress", "tok", "pictures")[0] == 0
    code, out, _ = flatvq("inspect", "pictures.fvqs", "--json")
    described = json.loads(out)
    assert code == 0
    assert described["kind"] == "collection"
    assert [each["name"] for each in described["images"]] == ["0", "1", "2", "3", "dogs/3.bmp", "dogs/3.png"]
    assert flatvq("decompress", "tok", "pictures.fvqs", "-o", "out")[0] == 0
    assert pixels("out/dogs/3.bmp.png").shape == (9, 12, 3)
    assert pixels("out/dogs/3.png.png").shape == (9, 13, 3)
    assert len(list(Path("out").rglob("*.png"))) == 6


def test_several_images_need_a_name_and_may_go_without_names(flatvq) -> None:
    code, _, err = flatvq("compress", "tok", "pictures/0.png", "pictures/1.png")
    assert code == 2
    assert "give --out NAME.fvqs" in err
    arguments = ("compress", "tok", "pictures/0.png", "pictures/1.png", "--no-names")
    assert flatvq(*arguments, "-o", "two.fvqs")[0] == 0
    assert flatvq(*arguments, "-o", "two.fvqs")[0] == 2
    assert flatvq(*arguments, "-o", "two.fvqs", "--force")[0] == 0
    assert flatvq(*arguments, "-o", "two.fvq")[0] == 2
    assert flatvq("decompress", "tok", "two.fvqs")[0] == 0
    assert sorted(path.name for path in Path("two").iterdir()) == ["1.png", "2.png"]


def test_a_prior_makes_files_smaller(flatvq) -> None:
    flatvq("compress", "tok", "pictures", "-o", "before.fvqs")
    code, out, err = flatvq("prior", "tok", "pictures", "--contexts", "4", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["images"] == 6
    code, _, err = flatvq("prior", "tok", "pictures", "--kind", "order-0")
    assert code == 2
    assert "add --replace" in err
    assert flatvq("compress", "tok", "pictures", "-o", "after.fvqs")[0] == 0
    assert Path("after.fvqs").stat().st_size < 0.9 * Path("before.fvqs").stat().st_size
    for name in ("before", "after"):
        assert flatvq("decompress", "tok", f"{name}.fvqs")[0] == 0
    assert np.array_equal(pixels("before/0.png"), pixels("after/0.png"))
    assert flatvq("compress", "tok", "pictures", "-o", "without.fvqs", "--no-prior")[0] == 0
    assert Path("without.fvqs").read_bytes() == Path("before.fvqs").read_bytes()
    code, out, _ = flatvq("inspect", "after.fvqs")
    assert code == 0
    assert "table" in out


def test_a_network_makes_files_smaller(flatvq) -> None:
    flatvq("compress", "tok", "pictures", "-o", "before.fvqs")
    arguments = ("prior", "tok", "pictures", "--kind", "network", "--steps", "100", "--json")
    code, out, err = flatvq(*arguments)
    assert (code, err) == (0, "")
    assert json.loads(out)["kind"] == "network"
    prior = Path("tok/prior.safetensors").read_bytes()
    assert flatvq("compress", "tok", "pictures", "-o", "after.fvqs")[0] == 0
    assert Path("after.fvqs").stat().st_size < 0.9 * Path("before.fvqs").stat().st_size
    for name in ("before", "after"):
        assert flatvq("decompress", "tok", f"{name}.fvqs")[0] == 0
    assert np.array_equal(pixels("before/0.png"), pixels("after/0.png"))
    assert "network" in flatvq("inspect", "after.fvqs")[1]
    assert flatvq(*arguments, "--replace")[0] == 0
    assert Path("tok/prior.safetensors").read_bytes() == prior
    assert flatvq(*arguments, "--replace", "--seed", "1")[0] == 0
    code, _, err = flatvq("decompress", "tok", "after.fvqs", "--force")
    assert code == 2
    assert "another tokenizer or prior" in err


def test_a_prior_fitted_to_several_sizes_is_measured_on_images_that_were_set_aside(flatvq) -> None:
    for number in range(4, 24):
        Image.fromarray(image(30, 40, number)).save(f"pictures/{number}.png")
    arguments = ("--kind", "order-0", "--resize", "16", "--resize", "32")
    code, out, err = flatvq("prior", "tok", "pictures", *arguments)
    assert (code, err) == (0, "")
    assert "Fitted a prior of kind order-0 to 48 images" in out
    # 26 images at two sizes; two of the images are held out.
    assert "On 4 images that were set aside" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("decompress", "tok", "missing.fvq"), "no file at 'missing.fvq'"),
        (("inspect", "pictures/0.png"), "is not a compressed image of flatvq"),
        (("decompress", "tok", "tok/config.json"), "is not a compressed image of flatvq"),
        (("inspect", "pictures"), "cannot use 'pictures' (is a directory)"),
        (("compress", "tok", "tok/config.json"), "'tok/config.json' cannot be used"),
        (("compress", "tok", "missing.png"), "cannot use 'missing.png'"),
        (("compress", "nowhere", "pictures/0.png"), "no tokenizer at 'nowhere'"),
        (("prior", "tok", "nowhere"), "no folder at 'nowhere'"),
    ],
)
def test_errors_are_one_line(flatvq, words: tuple[str, ...], message: str) -> None:
    code, out, err = flatvq(*words)
    assert (code, out) == (2, "")
    assert err.startswith("flatvq: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_file_of_another_tokenizer_is_refused(flatvq) -> None:
    flatvq("compress", "tok", "pictures/0.png", "-o", "a.fvq")
    code, _, err = flatvq("decompress", "other", "a.fvq")
    assert code == 2
    assert "'a.fvq' was compressed with another tokenizer or prior" in err
    assert not Path("a.png").exists()


def test_an_image_that_changes_while_it_is_compressed_is_not_replaced_by_another(flatvq, monkeypatch) -> None:
    images = type(open_folder(Path("pictures"), 1).images)
    load = images.load_region

    def load_region(self: ImageSet, index: int, region: Region) -> Pixels:
        if self.names[index] == "1.png":
            raise UnreadableImageError("'pictures/1.png': empty file")
        return load(self, index, region)

    monkeypatch.setattr(images, "load_region", load_region)
    for words in (("compress", "tok", "pictures", "-o", "all.fvqs"), ("prior", "tok", "pictures")):
        code, _, err = flatvq(*words)
        assert code == 2
        assert err.endswith(
            "flatvq: 'pictures/1.png': empty file, and was readable before: run the command again\n"
        )
    assert not Path("all.fvqs").exists()
    assert not Path("tok/prior.json").exists()


def test_a_prior_is_fitted_to_images_that_are_usable_at_all_sizes(flatvq) -> None:
    Image.fromarray(image(1, 5000)).save("pictures/narrow.png")  # too large when it is scaled to 256 rows
    code, out, err = flatvq(
        "prior", "tok", "pictures", "--kind", "order-0", "--resize", "2", "--resize", "256"
    )
    assert (code, err) == (0, "")
    assert "to 12 images" in out
