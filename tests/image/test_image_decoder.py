"""Decoders of unCLIP: image models that are conditioned on image embeddings."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from unveil.image.data.images import ImageSet, RandomImages
from unveil.image.generation import Given, generate
from unveil.image.inversion import inverted
from unveil.image.model import ImageModel
from unveil.image.networks.unet2d import UNet2d
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.image.training import image_batches, image_loss
from unveil.network.condition import Condition

SHAPE = ImageShape(
    4,
    1,
    width=8,
    multiples=(1,),
    attention=(4,),
    groups=4,
    stem=1,
    schedule="cosine",
    diffusion_steps=25,
    predicts="v",
    context=6,
    embedding=5,
)


def decoder(shape: ImageShape = SHAPE) -> ImageModel:
    torch.manual_seed(0)
    model = ImageModel(shape).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def null_of(model: ImageModel) -> Tensor:
    network = model.denoiser.network
    assert isinstance(network, UNet2d) and network.image is not None
    return network.image.null


def embeddings(count: int) -> Tensor:
    z = torch.randn((count, 5), generator=torch.Generator().manual_seed(1))
    return z / z.norm(dim=1, keepdim=True)


def test_dropped_embeddings_are_the_learned_null():
    model, z = decoder(), embeddings(3)
    cond = model.embedded(None, 3, z, torch.tensor([False, True, False]))
    assert cond is not None and cond.embedding is not None
    torch.testing.assert_close(cond.embedding, torch.stack([z[0], null_of(model), z[2]]))
    alone = model.condition(None, 2)
    assert alone is not None and alone.embedding is not None
    torch.testing.assert_close(alone.embedding, null_of(model).expand(2, -1))


def test_batches_have_the_embeddings_of_their_images_mirrored_or_not(generator):
    """The embedding of image k is (k, 0 ..), that of its mirror image (k, 1 ..)."""
    pixels = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    pixels[..., 0] = torch.arange(6, dtype=torch.uint8)[:, None, None] + 1
    z = torch.zeros(12, 5)
    z[:, 0] = torch.arange(12) % 6
    z[6:, 1] = 1.0
    random = RandomImages(ImageSet(pixels.numpy()), flip=True)
    batch = image_batches(random, SHAPE, 300, embeddings=z, embedding_drop=0.25)(generator)
    assert batch.embeddings is not None and batch.unseen is not None
    left, right = batch.pixels[:, 0, 0, 0].float(), batch.pixels[:, 0, 0, -1].float()
    assert torch.equal(batch.embeddings[:, 0] + 1.0, torch.maximum(left, right))
    assert torch.equal(batch.embeddings[:, 1] == 1.0, right > left) and 100 < int((right > left).sum()) < 200
    assert 50 < int(batch.unseen.sum()) < 100


def test_the_loss_sees_the_embeddings_and_trains_the_null(generator):
    model, z = decoder(), embeddings(6)
    random = RandomImages(ImageSet(torch.zeros(6, 1, 4, 4, dtype=torch.uint8).numpy()))
    batch = image_batches(random, SHAPE, 8, embeddings=z)(generator)
    losses = []
    for unseen in (torch.zeros(8).bool(), torch.ones(8).bool()):
        model.zero_grad()
        loss, _ = image_loss(model, batch._replace(unseen=unseen))
        loss.backward()
        gradient = null_of(model).grad
        losses.append(float(loss.detach()))
        assert (gradient is not None and float(gradient.abs().max()) > 0.0) == bool(unseen.all())
    other, _ = image_loss(model, batch._replace(embeddings=-z[:1].expand(8, -1), unseen=None))
    assert len({*losses, float(other.detach())}) == 3


def test_guidance_leads_from_the_null_embedding():
    """The belief is null + s (conditional - null), at each step; here of one step, without clipping."""
    model, z = decoder(), embeddings(2)
    noise = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(2))

    def made(embedding: Tensor | None, scale: float) -> Tensor:
        settings = ImageSettings("ddim", steps=1, scale=scale, clip=False)
        given = Given(embeddings=embedding)
        return generate(model, None, 2, settings, 0, noise=noise, given=given, finish=lambda x: x).pixels

    null, conditional = made(None, 1.0), made(z, 1.0)
    assert float((null - conditional).abs().max()) > 1e-3
    torch.testing.assert_close(made(z, 3.0), null + 3.0 * (conditional - null), rtol=1e-4, atol=1e-4)


def test_inversion_with_the_embedding_returns_better_with_more_steps():
    """DDIM is of first order: four times the steps leave about a fourth of the error, until the first time of
    the table, whose state is taken to be the image. With another embedding the images do not return."""
    model, z = decoder(replace(SHAPE, diffusion_steps=320)), embeddings(3)
    pixels = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    x_0 = model.normalized(pixels)
    errors = {}
    for steps in (20, 80, 320):
        settings = ImageSettings("ddim", steps=steps, clip=False)
        noise = inverted(model, pixels, None, settings, embeddings=z)
        for name, given in (("same", z), ("other", -z)):
            again = generate(
                model, None, 3, settings, 0, noise=noise, given=Given(embeddings=given), finish=lambda x: x
            ).pixels
            errors[name, steps] = float((again - x_0).square().mean().sqrt())
    assert errors["same", 20] > 3.0 * errors["same", 80] > 6.0 * errors["same", 320], errors
    assert errors["other", 320] > 5.0 * errors["same", 320], errors


def test_other_models_and_other_embeddings_are_refused():
    model = decoder()
    with pytest.raises(
        ValueError, match=r"of shape \(2, 5\) are needed, got \(2, 4\); those of another CLIP"
    ):
        generate(model, None, 2, ImageSettings(steps=2), 0, given=Given(embeddings=torch.zeros(2, 4)))
    plain = ImageModel(ImageShape(4, 1, width=8, multiples=(1,), attention=(4,), groups=4, stem=1))
    with pytest.raises(ValueError, match="trained without image embeddings"):
        generate(plain, None, 2, ImageSettings(steps=2), 0, given=Given(embeddings=torch.zeros(2, 5)))
    with pytest.raises(ValueError, match="`image_embedding` is for `trunk=unet`"):
        ImageShape(4, 1, width=8, trunk="dit", embedding=5)
    assert model.embedded(Condition(label=torch.zeros(1)), 1) is not None
