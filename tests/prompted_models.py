"""A small image model that reads prompts, and a batch for it."""

import torch

from unveil.image.data.tokenizer import train_words
from unveil.image.model import ImageModel
from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.shape import ImageShape
from unveil.image.training import ImageBatch


def words() -> TextConditioning:
    tokenizer = train_words(["a red cat", "a blue dog"], 6)
    return TextConditioning(tokenizer, WordTransformer(WordTransformerShape(tokenizer.size, 6, 8, 1, 2)))


def small(seed: int = 0) -> ImageModel:
    """A model of our own, none of whose weights is zero."""
    torch.manual_seed(seed)
    shape = ImageShape(
        8, 1, width=8, multiples=(1, 2), attention=(4,), groups=4, diffusion_steps=25, context=8, pooled=8
    )
    model = ImageModel(shape, text=words())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return model.eval()


def batch(model: ImageModel, count: int = 4) -> ImageBatch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    t = (1 + torch.randint(25, (count,), generator=generator)).double() / 25
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    prompts = tuple(["a red cat", "a blue dog", "", "cat"][k % 4] for k in range(count))
    return ImageBatch(pixels, None, torch.zeros(count, dtype=torch.bool), t, noise, 0, None, prompts)
