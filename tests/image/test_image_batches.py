"""Each image is made by numbers of its own: by its seed alone, whatever the batch, the count and what is made
beside it."""

from dataclasses import fields

import pytest
import torch
from test_image_model import SMALL, exact

from unveil.image.generation import Given, ImageSettings, generate
from unveil.image.inversion import inverted, slerp
from unveil.image.likelihood import bits_per_dim
from unveil.image.model import ImageModel, pixels_of
from unveil.image.restoration import Hide, measurement_cost
from unveil.image.shape import ImageShape

LABELS = torch.arange(5) % 2
KNOWN = torch.zeros((5, 1, 4, 4), dtype=torch.bool)
KNOWN[..., :2] = True
VALUE = torch.linspace(-1, 1, 80).reshape(5, 1, 4, 4)
WAYS = {
    "ddpm": ({"solver": "ddpm", "steps": 4}, {}),
    "ddim": ({"solver": "ddim", "steps": 4, "eta": 1.0}, {}),
    "guided": ({"solver": "ddpm", "steps": 4, "scale": 2.0, "rescale": 0.7, "threshold": 0.9}, {}),
    "begun": ({"solver": "ddpm", "steps": 4}, {"begin": VALUE}),
    "filled": (
        {"solver": "dpmpp", "steps": 4, "jumps": 2, "jump_length": 2},
        {"known": KNOWN, "value": VALUE},
    ),
    "restored": ({"solver": "ddpm", "steps": 4}, {}),
}


def some(given: dict, rows: slice, model: ImageModel, measured: bool) -> Given:
    parts = {name: it[rows] for name, it in given.items()}
    if measured:
        parts["cost"] = lambda r: measurement_cost(
            Hide(KNOWN[rows][r]), VALUE[rows][r] * KNOWN[rows][r], 0.1, model.denoiser.schedule
        )
    return Given(**parts)


@pytest.mark.parametrize("way", WAYS)
def test_an_image_depends_on_its_own_seed_alone(way):
    settings, given = WAYS[way]
    model, every = exact("ddpm"), slice(0, 5)

    def made(rows, seed, batch):
        labels = LABELS[rows]
        return generate(
            model,
            labels,
            len(labels),
            ImageSettings(**settings),
            seed,
            batch,
            given=some(given, rows, model, way == "restored"),
        ).pixels

    whole = made(every, 7, 5)
    assert torch.equal(made(every, 7, 2), whole) and torch.equal(made(slice(0, 3), 7, 64), whole[:3])
    assert torch.equal(made(slice(3, 4), 10, 1), whole[3:4])  # seed 7, image 3
    assert not torch.equal(made(every, 8, 5), whole) and not torch.equal(whole[0], whole[2])
    own = [torch.Generator().manual_seed(7 + i) for i in range(5)]
    assert torch.equal(made(every, own, 3), whole)


def test_one_generator_is_the_seed_of_all_and_moves_on():
    model, settings = exact("ddpm"), ImageSettings("ddpm", 3)
    generator = torch.Generator().manual_seed(0)
    first, second = (generate(model, LABELS, 5, settings, generator, batch).pixels for batch in (5, 5))
    again = generate(model, LABELS, 5, settings, torch.Generator().manual_seed(0), 2).pixels
    assert torch.equal(first, again) and not torch.equal(first, second)
    with pytest.raises(ValueError, match="5 samples need as many generators, got 1"):
        generate(model, LABELS, 5, settings, [generator])
    with pytest.raises(ValueError, match="or a seed below"):
        generate(model, LABELS, 5, settings, 2**63)  # pyright: ignore


def test_the_bits_of_an_image_do_not_depend_on_the_others_and_can_be_recorded():
    model = exact("ddpm", diffusion_steps=30)
    pixels = pixels_of(VALUE)
    whole = bits_per_dim(model, pixels, LABELS, 3).terms
    torch.testing.assert_close(bits_per_dim(model, pixels[2:4], LABELS[2:4], 5).terms, whole[2:4])
    noise = torch.stack(
        [torch.randn((30, 1, 4, 4), generator=torch.Generator().manual_seed(3 + i)) for i in range(5)], dim=1
    )
    torch.testing.assert_close(bits_per_dim(model, pixels, LABELS, noise=noise).terms, whole)
    other = bits_per_dim(model, pixels, LABELS, noise=noise.flip(0)).terms
    assert float((other - whole).abs().max()) > 1e-3  # row i - 1 belongs to t = i / T
    with pytest.raises(ValueError, match=r"noise must be finite floating-point numbers \(30, 5, 1, 4, 4\)"):
        bits_per_dim(model, pixels, LABELS, noise=noise[1:])


def test_recorded_noise_is_taken_as_it_is_where_asked():
    """EDM starts at sigma 80: noise is scaled by it, a recorded state is not; `inverted` gives both."""
    model = exact("edm")
    noise = torch.randn((5, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    settings = ImageSettings("ddim", 9)
    scaled = generate(model, LABELS, 5, settings, noise=noise).pixels
    assert torch.equal(generate(model, LABELS, 5, settings, noise=80.0 * noise, scaled=False).pixels, scaled)
    assert not torch.equal(generate(model, LABELS, 5, settings, noise=noise, scaled=False).pixels, scaled)
    state, of_one = (
        inverted(model, pixels_of(VALUE), LABELS, settings, scaled=which) for which in (False, True)
    )
    torch.testing.assert_close(state, 80.0 * of_one)
    with pytest.raises(ValueError, match="give noise"):
        generate(model, LABELS, 5, settings, scaled=False)


def test_what_is_watched_says_which_images_it_is_of():
    model, seen = exact("ddpm"), []
    generate(
        model,
        LABELS,
        5,
        ImageSettings(steps=2),
        0,
        3,
        lambda belief, t: seen.append((len(belief), round(float(t), 2))),
        on_batch=lambda rows: seen.append((rows.start, rows.stop)),
    )
    (first, second) = seen[1:3]
    assert first[1] > second[1] and seen == [(0, 3), first, second, (3, 5), (2, first[1]), (2, second[1])]


NAN = torch.full((5, 1, 4, 4), torch.nan)
UP = {"classes": 0, "null": False, "upsample": 2}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: generate(m, LABELS, 0, ImageSettings(), 0),
            "count must be a whole number of at least 1, got 0",
        ),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(), 0, batch=0),
            "batch must be a whole number of at least 1, got 0",
        ),
        (
            lambda m: generate(m, LABELS[:4], 5, ImageSettings(), 0),
            r"5 images need as many classes, of shape \(5,\), got \(4,\)",
        ),
        (lambda m: generate(m, LABELS[:, None], 5, ImageSettings(), 0), r"got \(5, 1\)"),
        (
            lambda m: generate(m, LABELS.float(), 5, ImageSettings(), 0),
            "whole numbers, such as torch.int64, got torch.float32",
        ),
        (lambda m: generate(m, LABELS - 1, 5, ImageSettings(), 0), "class -1: there are 0 .. 1"),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(scale=2.0, negative=2), 0),
            "`negative` 2: there are 0 .. 1",
        ),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(), 0, noise=VALUE[:4]),
            r"noise must be .* \(5, 1, 4, 4\), got .*\(4, 1, 4, 4\)",
        ),
        (lambda m: generate(m, LABELS, 5, ImageSettings(), 0, noise=NAN), "noise must be finite"),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(), 0, noise=pixels_of(VALUE)),
            "noise must be .*got torch.uint8",
        ),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(), 0, given=Given(begin=VALUE[..., :3])),
            r"given.begin must be of shape",
        ),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(), 0, given=Given(begin=NAN)),
            "given.begin must be finite",
        ),
        (
            lambda m: generate(m, LABELS, 5, ImageSettings(), 0, given=Given(known=KNOWN)),
            "given.known and given.value belong together",
        ),
        (
            lambda m: generate(
                m, LABELS, 5, ImageSettings(), 0, given=Given(known=KNOWN.float(), value=VALUE)
            ),
            "known must be bool",
        ),
        (
            lambda m: bits_per_dim(m, VALUE, LABELS, 0),
            "pixels must be whole numbers 0 .. 255, got torch.float32 in -1 .. 1",
        ),
        (
            lambda m: bits_per_dim(m, pixels_of(VALUE).int() + 200, LABELS, 0),
            r"got torch.int32 in 200 .. 455",
        ),
        (lambda m: bits_per_dim(m, pixels_of(VALUE)[:0], LABELS[:0], 0), "with B at least 1"),
        (lambda m: bits_per_dim(m, pixels_of(VALUE), LABELS.double(), 0), "whole numbers"),
        (lambda m: inverted(m, VALUE, LABELS, ImageSettings("ddim")), "pixels must be whole numbers"),
        (lambda m: inverted(m, pixels_of(VALUE), LABELS, ImageSettings("ddim"), batch=0), "batch must be"),
        (
            lambda m: inverted(m, pixels_of(VALUE), LABELS, ImageSettings("ddim", 1)),
            "needs `steps` of at least 2",
        ),
        (lambda m: slerp(VALUE, VALUE[:4], 0.5), r"slerp: two batches .*\(5, 1, 4, 4\), \(4, 1, 4, 4\)"),
        (lambda m: slerp(VALUE, VALUE, torch.ones(4)), "slerp: two batches"),
        (lambda m: slerp(VALUE, 0 * VALUE, 0.5), "no end all zeros"),
        (lambda m: slerp(VALUE, -VALUE, 0.5), "slerp: its ends are opposite"),
        (lambda m: slerp(VALUE, VALUE, float("nan")), "must be finite"),
    ],
)
def test_what_cannot_be_is_one_value_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(exact("ddpm"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 2.5}, "`steps` must be a whole number of at least 1, got 2.5"),
        ({"steps": True}, "must be a whole number of at least 1, got True"),
        ({"steps": "20"}, "must be a whole number of at least 1, got '20'"),
        ({"solver": "rk4"}, "must be one of 'ddim', 'ddpm', 'dpmpp', 'heun', 'euler', 'euler_ancestral',"),
        ({"spacing": None}, "`spacing` must be one of"),
        ({"clip": 1}, "`clip` must be True or False, got 1"),
        ({"respacing": 5}, "`respacing` must be text, got 5"),
        ({"scale": "2"}, "`scale` must be a finite number of at least 0, got '2'"),
        ({"scale": float("inf")}, "`scale` must be a finite number"),
        ({"scale": float("nan")}, "`scale` must be a finite number"),
        ({"temperature": float("nan"), "solver": "ddpm"}, "`temperature` must be a finite number"),
        ({"strength": float("nan")}, "`strength` must be a number above 0 and at most 1"),
        ({"eta": float("nan")}, "`eta` must be a number of at least 0 and at most 1"),
        ({"interval": (0.8, 0.2)}, "two rising times"),
        ({"interval": (0.1, float("nan"))}, "`interval` must be each a number"),
        ({"interval": 0.5}, "`interval` must be 2 values"),
        ({"interval": (0.1, 0.2, 0.3)}, "must be 2 values"),
        ({"interval": "01"}, "must be 2 values"),
        ({"negative": 1.0}, "`negative` must be a whole number"),
        ({"jumps": 0}, "`jumps` must be a whole number of at least 1"),
    ],
)
def test_settings_are_checked_where_they_are_made(given, message):
    with pytest.raises(ValueError, match=message):
        unchecked(**given)


def unchecked(**given) -> ImageSettings:
    """As where no types are checked, which the tests do on every call."""
    settings = object.__new__(ImageSettings)
    for field in fields(ImageSettings):
        object.__setattr__(settings, field.name, given.get(field.name, field.default))
    settings.__post_init__()
    return settings


def test_times_of_more_steps_than_the_table_has_are_refused_unless_they_are_counted_otherwise():
    from unveil.image.solvers import image_times

    model = ImageModel(ImageShape(**SMALL | {"schedule": "cosine", "diffusion_steps": 12}))
    with pytest.raises(ValueError, match="`steps` 20: this model was trained with 12"):
        image_times(model, ImageSettings("ddim"))
    assert len(image_times(model, ImageSettings("ddim", respacing="3,4"))) == 8
    assert unchecked(interval=[0.25, 0.5]).interval == (0.25, 0.5)
