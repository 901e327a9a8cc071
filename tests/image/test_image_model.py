"""Image models: what the network is told, what a batch holds, the loss, and images that come out right for a
denoiser that is exact."""

from math import log, pi

import pytest
import torch
from torch import nn

from unveil.image.data.images import ImageSet, RandomImages
from unveil.image.generation import ImageSettings, generate
from unveil.image.inversion import inverted, slerp
from unveil.image.latents.latent import Latents
from unveil.image.likelihood import bits_per_dim
from unveil.image.model import ImageModel, pixels_of
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.shape import ImageShape
from unveil.image.solvers import image_times
from unveil.image.training import image_batches, image_loss
from unveil.process.importance import LossHistory
from unveil.process.schedule import Karras

SMALL = {
    "size": 4,
    "channels": 1,
    "width": 8,
    "multiples": (1,),
    "blocks": 1,
    "attention": (),
    "groups": 4,
    "stem": 1,
}
METHODS = {
    "ddpm": {"schedule": "linear", "predicts": "eps"},
    "iddpm": {"schedule": "cosine", "predicts": "eps", "learned_variance": True},
    "v": {"schedule": "cosine", "predicts": "v"},
    "edm": {"schedule": "karras", "predicts": "edm"},
    "flow": {"schedule": "flow", "predicts": "flow"},
}


class Says(nn.Module):
    """A network that says the exact belief of x_0 ~ N(m_k, d^2) for class k, and of the middle for none."""

    def __init__(self, model: ImageModel, deviation: float = 0.1) -> None:
        super().__init__()
        self.model, self.deviation = [model], deviation
        self.told: list[torch.Tensor] = []
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x, time, cond):
        (model,) = self.model
        shape, denoiser = model.shape, model.denoiser
        self.told.append(time)
        t = (
            (time.double() + 1) / shape.diffusion_steps
            if shape.schedule in ("linear", "cosine")
            else time.double() / shape.diffusion_steps
        )
        if shape.schedule == "karras":
            t = Karras().time(-8.0 * time.double())
        skip, out, scale = (c.to(x.dtype)[:, None, None, None] for c in denoiser.coefficients(t))
        alpha, sigma = (
            c.to(x.dtype)[:, None, None, None]
            for c in (denoiser.schedule.alpha(t), denoiser.schedule.sigma(t))
        )
        x_t = x / scale
        mean = torch.tensor([-0.5, 0.5, 0.0])[cond.label][:, None, None, None] if cond is not None else 0.0
        gain = alpha * self.deviation**2 / ((alpha * self.deviation) ** 2 + sigma**2)
        belief = mean + gain * (x_t - alpha * mean)
        raw = (belief - skip * x_t) / out + self.weight
        return torch.cat([raw, torch.zeros_like(raw)], 1) if shape.learned_variance else raw


def exact(method: str, **more) -> ImageModel:
    model = ImageModel(
        ImageShape(**SMALL | METHODS[method] | {"classes": 2, "null": True, "diffusion_steps": 100} | more)
    )
    model.denoiser.network = Says(model)
    return model


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpmpp", "heun"])
def test_every_solver_on_every_method_makes_the_data(method, solver):
    """x_0 ~ N(-1/2 or 1/2, 0.1^2): mean and deviation of 32 images of each class, through pixels."""
    model = exact(method)
    steps = 100 if solver == "ddpm" else 40
    labels = torch.tensor([0, 1]).repeat(32)
    made = generate(model, labels, 64, ImageSettings(solver, steps), 100, batch=40)
    x = made.pixels.float() / 127.5 - 1.0
    for k, mean in ((0, -0.5), (1, 0.5)):
        assert float(x[labels == k].mean()) == pytest.approx(mean, abs=0.02)
        assert float(x[labels == k].std()) == pytest.approx(
            0.1, rel=0.3 if solver in ("ddim", "ddpm") else 0.1
        )
    assert made.calls == (2 * steps - 1 if solver == "heun" else steps)


def test_guidance_moves_from_no_class_through_the_class_and_beyond():
    model, means = exact("ddpm"), []
    for scale in (0.0, 1.0, 1.5):
        made = generate(
            model,
            torch.ones(8, dtype=torch.long),
            8,
            ImageSettings(scale=scale),
            torch.Generator().manual_seed(0),
        )
        means.append(float(made.pixels.float().mean()) / 127.5 - 1.0)
    assert means == pytest.approx([0.0, 0.5, 0.75], abs=0.03)
    alone = generate(model, None, 8, ImageSettings(), torch.Generator().manual_seed(0))
    assert float(alone.pixels.float().mean()) / 127.5 - 1.0 == pytest.approx(0.0, abs=0.03)


def test_inversion_is_undone_by_sampling_and_better_with_more_steps():
    model = exact("ddpm", diffusion_steps=1000)
    pixels = pixels_of(0.5 + 0.1 * torch.randn((6, 1, 4, 4), generator=torch.Generator().manual_seed(3)))
    errors, labels = [], torch.ones(6, dtype=torch.long)
    for steps in (10, 40, 120):
        settings = ImageSettings("ddim", steps, clip=False)
        noise = inverted(model, pixels, labels, settings)
        back = generate(model, labels, 6, settings, torch.Generator(), batch=4, noise=noise).pixels
        errors.append(float((back.float() - pixels.float()).abs().mean()))
    assert errors[0] > 1.5 * errors[1] and errors[1] > 1.5 * errors[2] and errors[2] < 3.0, errors
    with pytest.raises(ValueError, match="inversion needs `solver=ddim`"):
        inverted(model, pixels, labels, ImageSettings("heun"))


def test_slerp_keeps_the_norm_and_halves_the_angle():
    a, b = torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    half = 0.5**0.5
    torch.testing.assert_close(slerp(a, b, 0.5), torch.tensor([[2 * half, 2 * half], [3 * half, 3 * half]]))
    torch.testing.assert_close(slerp(a, b, torch.tensor([0.0, 1.0])), torch.tensor([[2.0, 0.0], [0.0, 3.0]]))


def test_the_network_is_told_what_each_paper_tells_it():
    """DDPM the step's index from 0, EDM ln(sigma) / 4."""
    ddpm, edm = exact("ddpm"), exact("edm")
    generate(
        ddpm,
        torch.zeros(2, dtype=torch.long),
        2,
        ImageSettings("ddpm", 100),
        torch.Generator().manual_seed(0),
    )
    assert [round(float(t[0]), 3) for t in ddpm.denoiser.network.told] == list(range(99, -1, -1))
    generate(
        edm, torch.zeros(2, dtype=torch.long), 2, ImageSettings("heun", 3), torch.Generator().manual_seed(0)
    )
    told = [float(t[0]) for t in edm.denoiser.network.told]
    assert told[0] == pytest.approx(log(80) / 4, rel=1e-4) and told[-1] == pytest.approx(
        log(0.002) / 4, rel=1e-4
    )


def test_the_second_order_solvers_stay_within_the_table():
    model = exact("ddpm")
    times = image_times(model, ImageSettings("dpmpp", 10))
    assert float(times[0]) <= 1.0 and float(times[-2]) == pytest.approx(0.01, rel=1e-3) and times[-1] == 0


@pytest.mark.parametrize("method", METHODS)
def test_training_learns_and_its_batches_are_as_published(method):
    """Two images, two classes: the loss falls below that of a network that says nothing."""
    shape = ImageShape(**SMALL | METHODS[method] | {"classes": 2, "null": True, "diffusion_steps": 50})
    torch.manual_seed(0)
    model = ImageModel(shape)
    pixels = torch.stack([torch.full((1, 4, 4), 40), torch.full((1, 4, 4), 220)]).byte().numpy()
    draw = image_batches(RandomImages(ImageSet(pixels, torch.tensor([0, 1]).numpy())), shape, 48, 0.25)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss, _ = image_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    batch = draw(torch.Generator().manual_seed(1))
    again = draw(torch.Generator().manual_seed(1))
    assert torch.equal(batch.noise, again.noise) and torch.equal(batch.t, again.t)
    assert batch.dropped.any() and not batch.dropped.all()  # each by itself
    many = torch.cat([draw(generator).t for _ in range(40)])
    if shape.schedule in ("linear", "cosine"):
        assert set((many * 50).round().int().tolist()) == set(range(1, 51))
    elif shape.schedule == "karras":
        logs = Karras().sigma(many).log()
        assert float(logs.mean()) == pytest.approx(-1.2, abs=0.1) and float(logs.std()) == pytest.approx(
            1.2, abs=0.1
        )
    else:
        logits = (many / (1 - many)).log()
        assert float(logits.mean()) == pytest.approx(0, abs=0.1) and float(logits.std()) == pytest.approx(
            1, abs=0.1
        )


def test_dropped_classes_are_told_as_none(generator):
    model = exact("ddpm")
    seen = []
    model.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[2].label))
    pixels = torch.zeros((4, 1, 4, 4), dtype=torch.uint8).numpy()
    draw = image_batches(
        RandomImages(ImageSet(pixels, torch.tensor([0, 1, 0, 1]).numpy())), model.shape, 64, 0.5
    )
    batch = draw(generator)
    image_loss(model, batch)
    assert torch.equal(seen[0], torch.where(batch.dropped, torch.tensor(2), batch.labels))


@pytest.mark.parametrize(("predicts", "factor"), [("eps", 1.0), ("v", 0.5)])
def test_min_snr_weighs_in_output_space(predicts, factor, generator):
    """At SNR 1 and gamma 5 the eps loss is weighed 1, the v loss 1/2, and at SNR 25 eps 1/5. Hang et al.
    2023."""
    model = exact("v" if predicts == "v" else "ddpm", diffusion_steps=1000)
    model.denoiser.network.weight.data.fill_(1.0)  # an error of its own
    pixels = torch.full((64, 1, 4, 4), 128, dtype=torch.uint8).numpy()
    batch = image_batches(
        RandomImages(ImageSet(pixels, torch.zeros(64, dtype=torch.long).numpy())), model.shape, 8, 0.0
    )(generator)
    for snr, expected in ((1.0, factor), (25.0, 5 / 25 if predicts == "eps" else 5 / 26)):
        t = model.denoiser.schedule.time(torch.tensor([log(snr)], dtype=torch.float64)).expand(8)
        plain, weighed = (
            float(image_loss(model, batch._replace(t=t), gamma)[0].detach()) for gamma in (0.0, 5.0)
        )
        assert weighed / plain == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", ["ddpm", "iddpm"])
def test_bits_of_gaussian_images_are_their_entropy(method):
    """x_0 ~ N(1/2, 0.1^2) by the exact denoiser: the bound lies just above the entropy of a pixel in bins of
    2 / 255."""
    model = exact(method, diffusion_steps=200)
    noise = torch.randn((24, 1, 4, 4), generator=torch.Generator().manual_seed(5))
    bits = bits_per_dim(
        model,
        pixels_of(0.5 + 0.1 * noise),
        torch.ones(24, dtype=torch.long),
        torch.Generator().manual_seed(0),
        "large",
    )
    drawn = float((0.5 * noise**2).mean()) / log(2)  # of these very samples
    entropy = 0.5 * log(2 * pi * 0.1**2) / log(2) + drawn - log(2 / 255) / log(2)
    assert entropy - 0.02 < float(bits.total.mean()) < entropy + 0.25
    assert bits.terms.shape == (24, 200) and float(bits.prior.mean()) < 0.5
    torch.testing.assert_close(bits.total, bits.prior + bits.terms.sum(1))


def test_the_bits_count_what_the_noisy_end_still_knows():
    """L_T of white pixels, x_0 = 1: -log2(1 - alpha^2) / 2; of grey ones, x_0 = 0: alpha^2 less, and next to
    nothing."""
    model = exact("ddpm", diffusion_steps=30)
    alpha = model.denoiser.schedule.alpha(torch.ones(1, dtype=torch.float64))
    white, grey = (
        torch.full((1, 1, 4, 4), 255, dtype=torch.uint8),
        torch.full((1, 1, 4, 4), 127, dtype=torch.uint8),
    )
    found = [
        float(bits_per_dim(model, p, torch.ones(1, dtype=torch.long), torch.Generator()).prior)
        for p in (white, grey)
    ]
    assert found[0] == pytest.approx(float(-0.5 * torch.log1p(-(alpha**2))) / log(2), rel=0.1)  # float32
    assert abs(found[1]) < 0.1 * found[0]


def test_the_bounds_loss_with_importance_sampling_estimates_the_bound():
    """L_vlb over many batches is bits a dimension without the prior, with even times and, after the warm-up,
    with preferred ones."""
    model = exact("iddpm", diffusion_steps=20)
    pixels = pixels_of(0.5 + 0.1 * torch.randn((64, 1, 4, 4), generator=torch.Generator().manual_seed(5)))
    labels = torch.ones(64, dtype=torch.long)
    images = ImageSet(pixels.numpy(), labels.numpy())
    bits = bits_per_dim(model, pixels, labels, torch.Generator().manual_seed(0))
    expected = float((bits.total - bits.prior).mean())
    history, values = LossHistory(20), []
    draw, generator = (
        image_batches(RandomImages(images), model.shape, 256, 0.0, history),
        torch.Generator().manual_seed(1),
    )
    for _ in range(24):
        values.append(float(image_loss(model, draw(generator), bound=True, history=history)[0].detach()))
    assert sum(values[4:]) / 20 == pytest.approx(expected, rel=0.02)
    draw = image_batches(RandomImages(images), model.shape, 20, 0.0)
    batch = draw(generator)
    assert batch.weights is None
    each = batch._replace(t=torch.arange(1, 21, dtype=torch.float64) / 20)  # every time once
    assert float(image_loss(model, each, bound=True)[0].detach()) == pytest.approx(expected, rel=0.1)
    assert int(history.counts.min()) == 10 and float(history.probabilities().max()) > 0.1


def test_a_wrong_model_costs_bits():
    model, pixels = exact("ddpm", diffusion_steps=30), torch.full((4, 1, 4, 4), 191, dtype=torch.uint8)
    right, wrong = (
        float(bits_per_dim(model, pixels, torch.full((4,), k), torch.Generator().manual_seed(0)).total.mean())
        for k in (1, 0)
    )
    assert wrong > right + 1.0


def test_the_linear_table_is_ddpms_and_every_length_ends_in_noise():
    table = exact("ddpm", diffusion_steps=1000).denoiser.schedule
    expected = (1.0 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(
        table.alpha(torch.arange(1, 1001, dtype=torch.float64) / 1000.0) ** 2, expected, rtol=1e-9, atol=0.0
    )
    for steps in (50, 4000):
        assert float(exact("ddpm", diffusion_steps=steps).denoiser.schedule.alpha(torch.ones(1))) < 0.01


def test_pixels_go_there_and_back():
    model, pixels = exact("ddpm"), torch.arange(256, dtype=torch.uint8).reshape(16, 1, 4, 4)
    assert torch.equal(pixels_of(model.normalized(pixels)), pixels)
    assert pixels_of(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ImageShape(28, 1, attention=(9,)), "the levels have 14, 7, 4"),
        (lambda: ImageShape(28, 1, diffusion_steps=20), "`diffusion_steps` above 20"),
        (lambda: ImageShape(28, 1, schedule="flow", learned_variance=True), "belongs to a table"),
        (lambda: ImageShape(28, 1, schedule="karras"), "needs predicts edm"),
        (lambda: ImageSettings(steps=0), "`steps` must be a whole number of at least 1"),
        (lambda: ImageSettings("heun", eta=0.5), "`eta` needs `solver` ddim or euler_ancestral"),
        (lambda: ImageSettings("ddim", variance="large"), "`variance` needs `solver=ddpm`"),
        (lambda: run("ddpm", {}, steps=101), "was trained with 100 steps"),
        (lambda: run("flow", {}, spacing="quadratic"), "on a table of steps"),
        (lambda: run("ddpm", {}, scale=2.0, labels=None), "give `label`"),
        (lambda: run("ddpm", {"null": False}, scale=2.0), "without dropping labels"),
        (lambda: run("ddpm", {"classes": 0, "null": False}, scale=2.0, labels=None), "without `classes`"),
        (lambda: run("ddpm", {"classes": 0, "null": False}), "trained without `classes`"),
        (lambda: run("ddpm", {"null": False}, labels=None), "give `label`"),
        (lambda: run("ddpm", {}, labels=torch.tensor([0, 2])), r"class 2: there are 0 .. 1"),
        (lambda: run("ddpm", {}, solver="ddpm", variance="learned"), "did not learn its variance"),
        (
            lambda: bits_per_dim(exact("flow"), torch.zeros(1, 1, 4, 4).byte(), None, torch.Generator()),
            "a table of steps",
        ),
    ],
)
def test_what_a_model_cannot_do_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def run(method, more, labels="both", **settings):
    labels = torch.tensor([0, 1]) if isinstance(labels, str) else labels
    return generate(
        exact(method, **more), labels, 2, ImageSettings(**settings), torch.Generator().manual_seed(0)
    )


def test_large_images_are_encoded_and_decoded_in_parts(monkeypatch, generator):
    """Whose codes and pixels are those of the whole batch."""
    torch.manual_seed(0)
    latents = Latents(Autoencoder(AutoencoderShape(1, 8, (1, 2), 1, 4, groups=4)), 0.5)
    model = ImageModel(ImageShape(**SMALL | {"channels": 4}), latent=latents)
    pixels = torch.randint(0, 256, (3, 1, 8, 8), generator=generator)
    codes = model.clean(pixels)
    made, seen = model.pixels(codes), []
    monkeypatch.setattr("unveil.image.model.AT_ONCE", 2 * 8 * 8)
    encode, decode = latents.encode, latents.decode
    monkeypatch.setattr(latents, "encode", lambda x: seen.append(len(x)) or encode(x))
    monkeypatch.setattr(latents, "decode", lambda z: seen.append(len(z)) or decode(z))
    torch.testing.assert_close(model.clean(pixels), codes)
    assert int((model.pixels(codes).int() - made.int()).abs().max()) <= 1 and seen == [2, 1, 2, 1]
    with pytest.raises(ValueError, match="not finite numbers; the weights are damaged"):
        model.pixels(codes * float("nan"))
    with pytest.raises(ValueError, match="give `dtype` bfloat16 or float32"):
        ImageModel(ImageShape(**SMALL)).half().pixels(torch.full((1, 1, 4, 4), float("nan")))
