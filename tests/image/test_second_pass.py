"""Two passes: what is enlarged and how, and that the second is the end of a longer sampling."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unveil.image.data.tokenizer import train_words
from unveil.image.generation import Given, generate
from unveil.image.high_resolution import HighResolution
from unveil.image.model import ImageModel
from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.second_pass import enlarged, generate_twice, larger_size
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.image.solvers import image_times
from unveil.process.corrupt import corrupt
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample
from unveil.sampling.noise import generators, normal_like

SETTINGS = ImageSettings("ddim", steps=4, clip=False)


def made_model(text: TextConditioning | None = None, **options) -> ImageModel:
    torch.manual_seed(0)
    shape = {"size": 4, "channels": 1, "width": 8, "multiples": (1,), "attention": (), "groups": 4, "stem": 1}
    made = ImageModel(ImageShape(**shape | options), text=text)
    with torch.no_grad():
        for weight in made.parameters():  # none is zero, as the last layer is when it is made
            weight.add_(0.05 * torch.randn(weight.shape))
    return made.eval()


def same(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def test_the_second_pass_is_the_end_of_a_longer_sampling_from_the_enlarged_images():
    model, high = made_model(), HighResolution(hires=2.0, hires_steps=3, hires_strength=0.4)
    assert high.steps_of(4) == (3, 7)
    made = generate_twice(model, None, 2, SETTINGS, high, 3, batch=1)
    first = generate(model, None, 2, SETTINGS, 3, finish=same).pixels
    times, schedule = image_times(model, replace(SETTINGS, steps=7))[4:], model.denoiser.schedule
    assert len(times) == 4
    noise = normal_like(torch.empty(2, 1, 8, 8), generators(3, 2))
    begin = F.interpolate(first, scale_factor=2, mode="bilinear")
    x = sample(model.denoiser, DDIM(schedule), corrupt(schedule, begin, times[0], noise), times)
    assert torch.equal(made.pixels, model.pixels(x)) and made.calls == 4 + 3


@torch.no_grad()
def test_prompts_go_on_in_the_second_pass():
    words = train_words(["cat dog"], length=4)
    encoder = WordTransformer(WordTransformerShape(words.size, 4, width=8, layers=1, heads=2))
    model = made_model(TextConditioning(words, encoder), context=8, pooled=8)
    high, how = HighResolution(hires=2.0, hires_strength=0.9), {"scale": 2.0}
    settings = replace(SETTINGS, **how)
    made = generate_twice(model, None, 1, settings, high, 0, given=Given(prompts=["[cat:dog:0.5]"]))
    first = generate(model, None, 1, settings, 0, given=Given(prompts=["[cat:dog:0.5]"]), finish=same).pixels
    begin, size = enlarged(model, first, (8, 8), "latent"), (8, 8)

    def second(prompt: str) -> Tensor:
        given = Given(prompts=[prompt], begin=begin, last=4)
        return generate(model, None, 1, settings, 0, given=given, size=size).pixels

    assert torch.equal(made.pixels, second("dog")) and not torch.equal(made.pixels, second("cat"))


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_as_many_steps_are_done_as_asked_for_whatever_the_strength(strength):
    model, high = made_model(), HighResolution(hires=2.0, hires_strength=strength)
    calls = generate_twice(model, None, 1, ImageSettings("dpmpp", steps=5), high, 0).calls
    assert calls == 5 + 5


def test_pixels_are_enlarged_by_their_filters_and_codes_by_interpolation(generator):
    model = made_model()
    x = torch.rand((2, 1, 4, 4), generator=generator) * 2 - 1
    nearest = enlarged(model, x, (8, 12), "nearest")
    pixels = model.pixels(x).repeat_interleave(2, 2).repeat_interleave(3, 3)
    assert torch.equal(nearest, model.normalized(pixels))
    flat = torch.full((1, 1, 4, 4), 0.2)
    for upscaler in ("bicubic", "lanczos"):
        large = enlarged(model, flat, (8, 8), upscaler)
        assert large.shape[2:] == (8, 8) and bool(
            (large == model.clean(model.pixels(flat))[0, 0, 0, 0]).all()
        )
    assert torch.equal(enlarged(model, x, (8, 8), "latent_nearest"), F.interpolate(x, scale_factor=2))
    smooth = enlarged(model, x, (8, 8), "latent_bicubic")
    assert torch.equal(smooth, F.interpolate(x, scale_factor=2, mode="bicubic"))


def test_sides_are_multiples_of_the_unit():
    model = made_model(stem=2, size=8)
    assert model.unit == 2
    assert larger_size(model, None, 1.3) == (10, 10) and larger_size(model, (8, 12), 1.5) == (12, 18)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HighResolution(hires_steps=3), "`hires_steps` applies to the second pass; give `hires`"),
        (lambda: HighResolution(hires=0.5), "`hires`"),
        (
            lambda: twice(HighResolution(hires=2.0, hires_strength=0.001)),
            "needs 4000 times, but this model has 1000",
        ),
        (lambda: twice(HighResolution()), "give one above 1"),
        (
            lambda: twice(HighResolution(hires=2.0), given=Given(begin=torch.zeros(1, 1, 4, 4))),
            "images from noise",
        ),
        (lambda: twice(HighResolution(hires=2.0), settings=replace(SETTINGS, respacing="4")), "`respacing`"),
    ],
)
def test_what_cannot_be_is_one_value_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def twice(high: HighResolution, settings: ImageSettings = SETTINGS, given: Given | None = None):
    return generate_twice(made_model(), None, 1, settings, high, 0, given=given or Given())
