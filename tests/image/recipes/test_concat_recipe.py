"""Models that see something beside the noisy image, and the transformer, by the commands: train, resume, sample
in pixels and latents, begin with the weights of an ordinary model, and bad input in one line."""

import json
import shutil
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.cli import main
from unveil.files.pictures import read_parameters
from unveil.image.networks.dit import DiT
from unveil.image.recipes.card import image_card
from unveil.image.recipes.train_config import TRAIN_PRESETS, TrainImage, for_trunk, resolved
from unveil.loading import load
from unveil.network.condition import Condition
from unveil.runs.flags import changed

AUTOENCODER = split(
    "train autoencoder --preset tiny --width 8 --groups 4 --latent 3 --batch-size 4 --warmup 2 --device cpu "
    "--adversarial 0 --save-every 2 --hold-out 0.2 --steps 2"
)
TRAIN = split(
    "train image --preset tiny --diffusion-steps 25 --device cpu --batch-size 4 --warmup 2 --save-every 2 "
    "--keep 0 --hold-out 0.2 --bfloat16 False --predicts x0 --flip"
)
UNET, DIT = split("--width 8 --multiples 1 --groups 4"), split("--trunk dit --width 16 --depth 2 --heads 2")
WORDS = split("--text-width 8 --text-layers 1 --text-heads 2 --text-length 6")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Pictures of coloured squares with maps, classes and captions, and an autoencoder of them."""
    folder, rng = tmp_path_factory.mktemp("concat"), np.random.default_rng(0)
    images, maps = np.full((40, 16, 16, 3), 255, np.uint8), np.zeros((40, 16, 16), np.uint8)
    for k in range(40):
        y, x = rng.integers(0, 8, 2)
        images[k, y : y + 8, x : x + 8] = (200, 30, 30) if k % 2 else (30, 30, 200)
        maps[k, y : y + 8, x : x + 8] = 1 + k % 2
    captions = np.array(["a blue square", "a red square"] * 20)
    labels = np.arange(40) % 2
    np.savez(folder / "squares.npz", images=images, maps=maps, labels=labels, captions=captions)
    Image.fromarray(images[0]).save(folder / "one.png")
    Image.fromarray(maps[0]).save(folder / "map.png")
    Image.fromarray((np.arange(16)[:, None] < 8).repeat(16, 1).astype(np.uint8) * 255).save(
        folder / "mask.png"
    )
    Image.fromarray(images[0, ::4, ::4]).save(folder / "small.png")
    assert main([*AUTOENCODER, "--data", str(folder / "squares.npz"), "--out", str(folder / "ae")]) == 0
    return folder


def train(base: Path, out: Path, *words: str, steps: int = 2) -> int:
    flags = ["--data", str(base / "squares.npz"), "--out", str(out), "--steps", str(steps)]
    return main([*TRAIN, *flags, *(str(base / w[1:]) if w.startswith("@") else w for w in words)])


def sample(base: Path, run: Path, out: Path, *words: str) -> int:
    flags = ["--checkpoint", str(run), "--steps", "2", "-n", "2", "--device", "cpu", "--out", str(out)]
    named = (str(base / w[1:]) if w.startswith("@") else w for w in words)
    return main(["sample", "image", *flags, *named])


CASES = {
    "inpaint": (split("--concat inpaint"), split("--task inpaint --from @one.png --mask @mask.png"), 4),
    "lowres": (split("--concat lowres --upsample 4"), split("--upscale @small.png --noise-level 100"), 3),
    "map": (split("--concat map"), split("--map @map.png"), 3),
}


@pytest.mark.parametrize("latent", [False, True], ids=["pixels", "latents"])
@pytest.mark.parametrize("kind", CASES)
def test_trained_resumed_and_sampled(base, tmp_path, kind, latent):
    """Pixels by the U-Net, latents by the transformer with classes and captions. A run in two parts has the
    weights of a run in one, and what is sampled is made again from its PNG."""
    flags, how, channels = CASES[kind]
    more = [*DIT, "--latent", "@ae", "--classes", "--captions", "auto", *WORDS] if latent else UNET
    assert train(base, tmp_path / "one", *flags, *more, steps=4) == 0
    assert (tmp_path / "one" / "samples" / "step-000002.png").is_file()
    assert train(base, tmp_path / "two", *flags, *more) == 0
    assert train(base, tmp_path / "two", *flags, *more, "--resume", steps=4) == 0
    one, two = (load(tmp_path / name, "cpu") for name in ("one", "two"))
    state = two.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    assert (one.shape.beside, one.shape.concat) == (kind, channels)
    assert isinstance(one.denoiser.network, DiT) == latent
    assert (tmp_path / "one" / "checkpoint-2").is_dir()
    prompt = ["--prompt", "a red square", "--class", "1"] if latent else []
    assert sample(base, tmp_path / "one", tmp_path / "out", *how, *prompt) == 0
    with Image.open(tmp_path / "out" / "0001.png") as picture:
        assert picture.size == (16, 16)
    assert read_parameters(tmp_path / "out" / "grid.png")
    again = ["--from-png", str(tmp_path / "out" / "grid.png"), "--out", str(tmp_path / "again")]
    assert main(["sample", "image", *again]) == 0
    one, two = ((tmp_path / name / "0001.png").read_bytes() for name in ("out", "again"))
    assert one == two
    if kind == "map":
        words = split("--n 4 --bits 0 --extractor pixels --steps 2 --device cpu")
        assert main(["eval", "image", "--checkpoint", str(tmp_path / "one"), *words]) == 0


def test_what_the_model_sees_decides_the_samples(base, tmp_path):
    """Another mask, small image or level changes them; the noise of a level is drawn with the seed."""
    assert train(base, tmp_path / "run", *UNET, *CASES["lowres"][0], steps=6) == 0
    made = {}
    for name, words in {
        "plain": "--from @small.png --noise-level 0",
        "noise": "--from @small.png --noise-level 300",
        "seed": "--from @small.png --noise-level 300 --seed 7",
        "degraded": "--from @one.png --degrade --noise-level 0",
    }.items():
        assert sample(base, tmp_path / "run", tmp_path / name, *split(words)) == 0
        made[name] = (tmp_path / name / "0000.png").read_bytes()
    assert len({made[name] for name in ("plain", "noise", "seed")}) == 3


@pytest.mark.parametrize("kind", ["inpaint", "lowres"])
def test_a_model_begins_as_the_ordinary_one_that_it_comes_from(base, tmp_path, kind):
    """New channels and the embedding of the level begin at zero: at almost no rate its predictions are those
    of the ordinary model, whatever is beside the image."""
    assert train(base, tmp_path / "old", *UNET) == 0
    tiny = ["--learning-rate", "1e-12", "--start-from", str(tmp_path / "old")]
    assert train(base, tmp_path / "new", *UNET, *CASES[kind][0], *tiny, steps=1) == 0
    old, new = (load(tmp_path / name, "cpu") for name in ("old", "new"))
    x, t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.8])
    beside = torch.randn(2, new.shape.concat, 16, 16, generator=torch.Generator().manual_seed(1))
    level = torch.tensor([3.0, 300.0]) if kind == "lowres" else None
    with torch.no_grad():
        wanted = old.denoiser(x, t.double()).mean
        found = new.denoiser(x, t.double(), Condition(concat=beside, concat_level=level)).mean
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_size_of_the_transformer_follows_from_preset_and_images():
    """About as many parameters as the U-Net of the preset; patches so that at most 16 x 16 cover the image."""
    config = for_trunk(TRAIN_PRESETS["default"], "dit")
    assert (config.network.width, config.transformer.depth, config.transformer.heads) == (128, 8, 4)
    assert for_trunk(TrainImage(), "") == TrainImage()
    sides = [8, 16, 28, 32, 64, 96, 27]
    assert [resolved(config, 3, side).network.stem for side in sides] == [1, 1, 2, 2, 4, 8, 1]
    assert resolved(changed(config, patch=4), 3, 32).network.stem == 4


def test_a_card_says_what_the_network_is_and_sees(base, tmp_path):
    run = tmp_path / "run"
    assert train(base, run, *DIT, "--patch", "4", *CASES["map"][0]) == 0
    described = json.loads((run / "config.json").read_text())
    assert (described["trunk"], described["depth"], described["heads"], described["stem"]) == ("dit", 2, 2, 4)
    card = image_card("squares", run / "checkpoint-2", described, ())
    assert "a diffusion transformer (DiT) of width 16, 2 blocks and 2 heads over patches of 4 x 4" in card
    assert "semantic maps" in card and "--concat map" in card
    assert "--trunk dit" in card and "--depth 2 --heads 2 --patch 4" in card


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--trunk dit --multiples 1", "--multiples is for --trunk unet"),
        ("--trunk dit --dropout 0.1", "--dropout is for --trunk unet"),
        ("--depth 3", "--depth is for --trunk dit"),
        ("--trunk dit --heads 3", "--width 64 must be a multiple of 4 and of --heads 3"),
        ("--trunk dit --patch 3", "--patch 3 does not divide"),
        ("--concat lowres", "--concat lowres needs --upsample"),
        ("--concat lowres --upsample 3", "--upsample 3 does not divide images of 16 pixels"),
        ("--concat inpaint --upsample 2", "--upsample is for --concat lowres"),
        ("--concat map --maps nowhere.npz", "nowhere.npz: no such file or folder of maps"),
        ("--maps maps", "--maps are for --concat map"),
        ("--captions @none.jsonl", "names none of the images"),
    ],
)
def test_trainings_that_make_no_sense_are_refused_in_one_line(base, tmp_path, capsys, words, message):
    (base / "pictures").mkdir(exist_ok=True)
    shutil.copy(base / "one.png", base / "pictures")
    (base / "none.jsonl").write_text('{"file_name": "other.png", "text": "a square"}\n')
    folder = ["--data", "@pictures", "--hold-out", "0"] if "none.jsonl" in words else []
    assert train(base, tmp_path / "run", *split(words), *folder) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error, error


def test_samplings_without_what_the_model_sees_are_refused_in_one_line(base, tmp_path, capsys):
    for kind, (flags, _, _) in CASES.items():
        assert train(base, tmp_path / kind, *UNET, *flags, steps=1) == 0
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(base / "seven.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(base / "tiny.png")
    capsys.readouterr()
    for kind, words, message in (
        ("inpaint", "", "fills in parts of images: give --task inpaint, --from and --mask"),
        ("inpaint", "--task inpaint --from @one.png", "inpainting needs --mask FILE"),
        ("inpaint", "--task inpaint --from @one.png --mask @tiny.png", "is 8 x 8, but 16 x 16 is needed"),
        ("inpaint", "--map @map.png", "--map is for models"),
        ("inpaint", "--noise-level 5", "--noise-level is for models"),
        ("lowres", "", "an upsampler needs images: give --from"),
        ("map", "", "draws semantic maps: give --map FILE"),
        ("map", "--map @seven.png", "label 7, but the model knows 0 .. 2, and 255"),
        ("map", "--map @one.png", "its colours are RGB"),
        ("map", "--map @tiny.png", "is 8 x 8, but 16 x 16 is needed"),
        ("map", "--map @map.png --task img2img --from @one.png", "give --map alone"),
    ):
        assert sample(base, tmp_path / kind, tmp_path / "out", *split(words)) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error, error
    assert (
        main(["demo", "image", "--checkpoint", str(tmp_path / "map"), "--out", str(tmp_path / "demo")]) != 0
    )
    assert "beside the image" in capsys.readouterr().err
