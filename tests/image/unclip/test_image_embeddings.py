"""Embeddings of images: their sizes, and their change by the difference of two texts."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unveil.image.clip_model import ClipModel
from unveil.image.data.tokenizer import train_words
from unveil.image.inversion import slerp
from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.shape import ImageShape
from unveil.image.unclip.image_embeddings import edited, image_embeddings

SHAPE = ImageShape(
    4, 1, width=8, multiples=(1,), attention=(), groups=4, stem=1, schedule="cosine", context=8, pooled=8
)


def clip() -> ClipModel:
    torch.manual_seed(0)
    tokenizer = train_words(["a red circle", "a blue square"], length=6)
    text = TextConditioning(tokenizer, WordTransformer(WordTransformerShape(tokenizer.size, 6, 8, 1, 2)))
    return ClipModel(SHAPE, 5, text).eval()


def angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.double(), b.double(), dim=-1).clamp(-1.0, 1.0).acos()


def test_large_images_are_shrunk_by_means_and_others_are_refused():
    model = clip()
    small = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    z = image_embeddings(model, small, batch=2)
    torch.testing.assert_close(image_embeddings(model, large), z)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
    for wrong in (torch.zeros(1, 1, 6, 6), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 8)):
        with pytest.raises(ValueError, match="reads images of 1 channels, of 4 pixels or a multiple of them"):
            image_embeddings(model, wrong.to(torch.uint8))


def test_interpolation_is_monotone_in_the_angle():
    """slerp goes along the arc at constant speed: the angle to the first end is the share of the whole."""
    a, b = F.normalize(torch.randn(2, 7, generator=torch.Generator().manual_seed(2)), dim=1).split(1)
    shares = torch.linspace(0.0, 1.0, 9)
    between = slerp(a.expand(9, -1), b.expand(9, -1), shares)
    torch.testing.assert_close(angle(between, a), shares.double() * angle(a, b), atol=1e-4, rtol=0)
    torch.testing.assert_close(between.norm(dim=1), torch.ones(9))


def test_edits_turn_towards_the_difference_of_the_texts():
    model, z = clip(), F.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), dim=1)
    before, after = model.read(["a red circle", "a blue square"])
    difference = F.normalize(after - before, dim=0)
    shares = torch.tensor([0.0, 0.2, 0.4, 1.0])
    made = edited(model, z[:1].expand(4, -1), "a red circle", "a blue square", shares)
    torch.testing.assert_close(made[0], z[0])
    torch.testing.assert_close(made[3], difference)
    torch.testing.assert_close(
        angle(made, z[:1]), shares.double() * angle(z[:1], difference[None]), atol=1e-4, rtol=0
    )
    assert bool(((made @ difference).diff() > 0.0).all())
    backward = edited(model, z[:1], "a blue square", "a red circle", 1.0)
    torch.testing.assert_close(backward[0], -difference)
    with pytest.raises(ValueError, match="have the same embedding, so that nothing changes"):
        edited(model, z, "a red circle", "A red circle", 0.3)
