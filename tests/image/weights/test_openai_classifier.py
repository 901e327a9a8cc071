"""guided-diffusion's classifiers and upsamplers compute under our names what they compute there, and guide as
there.

How the numbers were made: `images/README.md`.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import unveil
from foreign_images import OPENAI, drawn, filled, golden, written
from tolerance import golden_close
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.classifier import ImageClassifier
from unveil.image.recipes.convert import our_shape
from unveil.image.weights.openai import RELEASED
from unveil.image.weights.releases import read_images_file
from unveil.process.posterior import posterior_coefficients
from unveil.sampling.edit import potential_gradient
from unveil.sampling.guidance import tilted

FLAGS = {
    "classifier": "image_size=8 noise_schedule=cosine",
    "classifier_plain": "image_size=8 classifier_depth=1 diffusion_steps=4000 rescale_timesteps=True",
    "upsampler": "large_size=8 small_size=2",
}
ENTRIES = {"classifier_plain": [13, 2000]}
LABELS = {
    "classifier": torch.tensor([6, 2]),
    "classifier_plain": torch.tensor([4, 1]),
    "upsampler": torch.tensor([6, 2]),
}


def file(name: str, folder: Path) -> Path:
    path = folder / f"{name}.pt"
    torch.save(filled(golden(name)["shapes"]), path)
    return path


def at(name: str, steps: int) -> torch.Tensor:
    return (torch.tensor(ENTRIES.get(name, [3, 600]), dtype=torch.float64) + 1) / steps


def noisy(name: str) -> torch.Tensor:
    """`drawn` gives grey pictures for some names, as it did when the numbers were made."""
    return drawn("adm" if name == "classifier" else "ddpm")


@pytest.mark.parametrize("name", ["classifier", "classifier_plain"])
def test_logits_and_gradients_are_theirs(name, tmp_path):
    """The pool's order of q, k, v, the mean's place, the offset and scale of entries: 1e-5."""
    model, wanted = unveil.load(file(name, tmp_path), "cpu", flags=FLAGS[name]), golden(name)
    assert isinstance(model, ImageClassifier)
    t = at(name, model.shape.diffusion_steps)
    with torch.no_grad():
        golden_close(model.logits(noisy(name), t), wanted["y"])
    gradient = potential_gradient(model.log_probability(LABELS[name]), noisy(name), t)
    scale = float(wanted["gradient"].abs().max())
    golden_close(gradient, wanted["gradient"])
    later = potential_gradient(
        model.log_probability(LABELS[name]), noisy(name), t + 1 / model.shape.diffusion_steps
    )
    assert float((later - gradient).abs().max()) > 1e-4 * scale  # an entry more is another answer


def test_guidance_by_it_is_theirs_in_both_forms(tmp_path):
    """A scale of 500 on a U-Net of the same release: `condition_mean` shifts the step's mean,
    `condition_score` the belief."""
    (path, said), wanted = written("adm", tmp_path), golden("classifier")
    model = unveil.load(path, "cpu", **said)
    classifier = unveil.load(file("classifier", tmp_path), "cpu", flags=FLAGS["classifier"])
    x, t, labels = noisy("classifier"), at("classifier", 1000), LABELS["classifier"]
    schedule, cond = model.denoiser.schedule, model.condition(labels, 2)
    with torch.no_grad():
        belief = model.denoiser(x, t, cond)
    log_h = classifier.log_probability(labels)
    led = tilted(lambda x, t: belief, log_h, schedule, 500.0)(x, t).mean
    c = posterior_coefficients(schedule, t, t - 1 / 1000)
    share, columns = belief.variance_fraction.double(), (slice(None), None, None, None)
    variance = (share * c.large.log()[columns] + (1 - share) * c.small.log()[columns]).exp()
    mean = c.x_t_weight[columns] * x + c.x_0_weight[columns] * belief.mean
    moved = mean + 500.0 * variance * potential_gradient(log_h, x, t)
    for found, key in ((led, "guided_x0"), (moved.float(), "guided_mean")):
        for row in range(2):
            golden_close(found[row], wanted[key][row], 512)


def test_an_upsamplers_belief_is_theirs(tmp_path):
    """Noise first, the enlarged picture behind it."""
    model, wanted = (
        unveil.load(file("upsampler", tmp_path), "cpu", flags=FLAGS["upsampler"]),
        golden("upsampler"),
    )
    assert model.shape.upsample == 4
    low = torch.from_numpy(np.random.RandomState(2).uniform(-1, 1, (2, 3, 2, 2)).astype(np.float32))
    with torch.no_grad():
        belief = model.denoiser(
            noisy("upsampler"), at("upsampler", 1000), model.condition(LABELS["upsampler"], 2, low)
        )
    for row in range(2):
        golden_close(belief.mean[row], wanted["x0"][row], 512)


@pytest.mark.parametrize(
    "stem", ["64x64_classifier", "128x128_classifier", "256x256_classifier", "512x512_classifier"]
)
def test_the_released_classifiers_are_known_by_their_names(stem):
    """By the shapes of their tensors, which the original's code makes from its flags; nothing of their size
    is stored."""
    described = _released(stem)
    network = described.network
    assert (described.size, network.channels, network.classes, network.head_width) == (
        int(stem.partition("x")[0]),
        3,
        1000,
        64,
    )
    assert (network.blocks, network.big_gan, network.scale_shift) == (
        4 if stem.startswith("64") else 2,
        True,
        True,
    )
    assert our_shape(described).schedule == ("cosine" if stem.startswith("64") else "linear")


@pytest.mark.parametrize(("stem", "sides"), [("64_256_upsampler", (256, 4)), ("128_512_upsampler", (512, 4))])
def test_the_released_upsamplers_are_known_by_their_names(stem, sides):
    described = _released(stem)
    assert (
        (described.size, described.upsample) == sides
        and described.network.concat == 3
        and described.network.labels == 1000
    )


def _released(stem: str):
    from unveil.image.weights import releases as image_weights
    from unveil.image.weights.openai import read_flags

    assert stem in RELEASED
    tensors = {name: torch.zeros(()).expand(shape) for name, shape in golden("released")[stem].items()}
    return image_weights._openai(tensors, read_flags("", stem), 0).described


def test_a_converted_classifier_guides_a_converted_model(tmp_path, capsys):
    path, _ = written("adm", tmp_path)
    assert main(["weights", "convert", str(path), str(tmp_path / "model"), f"--flags={OPENAI['adm']}"]) == 0
    guide = file("classifier", tmp_path)
    assert main(["weights", "inspect", str(guide), f"--flags={FLAGS['classifier']}"]) == 0
    assert "then --classifier OUT" in capsys.readouterr().out
    assert (
        main(["weights", "convert", str(guide), str(tmp_path / "guide"), f"--flags={FLAGS['classifier']}"])
        == 0
    )
    asked = [
        "sample",
        "image",
        "--checkpoint",
        str(tmp_path / "model"),
        "-n",
        "2",
        "--class",
        "2",
        "--steps",
        "3",
        "--device",
        "cpu",
    ]
    asked += ["--classifier", str(tmp_path / "guide"), "--solver", "ddim"]
    for scale in ("0", "50"):
        assert main([*asked, "--classifier-scale", scale, "--out", str(tmp_path / scale)]) == 0
    assert (tmp_path / "0" / "0000.png").read_bytes() != (tmp_path / "50" / "0000.png").read_bytes()
    config = json.loads((tmp_path / "guide" / "config.json").read_text())
    assert config["recipe"] == "classifier" and len(config["names"]) == 7
    (tmp_path / "guide" / "config.json").write_text(json.dumps(config | {"counted_from": 5}))
    capsys.readouterr()
    assert main([*asked, "--out", str(tmp_path / "x")]) == 2 and "counted_from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [
        ("classifier", "image_size=8 classifier_depth=1", "classifier_depth 1; give both flags"),
        ("classifier", "image_size=16", "are not of image_size 16"),
        ("classifier", "image_size=8 classifier_width=32", "its tensors say classifier_width 64"),
        ("classifier", "image_size=8 noised=False", "clean images"),
        ("upsampler", "image_size=8", "but it is an upsampler"),
        ("upsampler", "large_size=8 small_size=3", "does not divide"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(name, flags, told, tmp_path):
    with pytest.raises(UnveilError, match=told):
        read_images_file(file(name, tmp_path), flags=flags)


def test_other_pools_are_told(tmp_path):
    tensors = filled(golden("classifier")["shapes"])
    rest = {name: value for name, value in tensors.items() if not name.startswith("out.2.")}
    torch.save(
        rest | {"out.3.weight": torch.ones(7, 128, 1, 1), "out.3.bias": torch.ones(7)}, tmp_path / "x.pt"
    )
    with pytest.raises(UnveilError, match="classifier_pool adaptive; only attention can be read"):
        read_images_file(tmp_path / "x.pt", flags=FLAGS["classifier"])
