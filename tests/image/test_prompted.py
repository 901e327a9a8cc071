"""Guidance by prompts: which text each step sees, the sum of AND, weights of words, and long texts."""

import pytest
import torch
from torch import Tensor

from unveil.image.data.tokenizer import train_words
from unveil.image.model import ImageModel
from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape
from unveil.image.prompted import prompted
from unveil.image.prompts.prompt import parse, weighted
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.network.condition import Condition
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import uniform

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> ImageModel:
    torch.manual_seed(0)
    words = train_words(["red blue green cat dog"], length=6)
    encoder = WordTransformer(WordTransformerShape(words.size, 6, width=8, layers=1, heads=2))
    shape = ImageShape(4, 1, width=8, multiples=(1,), groups=4, attention=(), stem=1, context=8, pooled=8)
    return ImageModel(shape, text=TextConditioning(words, encoder)).requires_grad_(False)


def pooled(model: ImageModel, text: str) -> Tensor:
    assert model.text is not None
    vector = model.text([text], CPU).vector
    assert vector is not None
    return vector[0]


def run(model: ImageModel, prompts: list[str], negative: str = "", earlier: int = 0, **settings) -> Tensor:
    """The means (steps, B, P) of a denoiser whose belief is the pooled text."""

    def denoiser(x_t: Tensor, t: Tensor, cond: Condition | None) -> GaussianDenoised:
        assert cond is not None and cond.vector is not None
        return GaussianDenoised(cond.vector)

    times = uniform(4)
    chosen = ImageSettings(**settings)
    denoise = prompted(model, denoiser, prompts, negative, (None, None), chosen, times, earlier)
    x = torch.zeros(len(prompts), 8)
    return torch.stack([denoise(x, t.expand(len(prompts))).mean for t in times[:-1]])


def test_each_step_sees_its_text(model):
    made = run(model, ["[cat:dog:1]", "[cat:dog:0.5]", "[cat|dog]", "cat"])
    cat, dog = pooled(model, "cat"), pooled(model, "dog")
    seen = [["cat" if torch.allclose(row, cat) else "dog" for row in step] for step in made]
    assert all(torch.allclose(row, cat) or torch.allclose(row, dog) for step in made for row in step)
    assert [list(column) for column in zip(*seen, strict=True)] == [
        ["cat", "dog", "dog", "dog"],
        ["cat", "cat", "dog", "dog"],
        ["cat", "dog", "cat", "dog"],
        ["cat"] * 4,
    ]


def test_in_a_second_pass_steps_count_on_and_fractions_lie_in_1_to_2(model):
    made = run(model, ["[cat:dog:0.5]", "[cat:dog:1.5]", "[cat:dog:5]", "[cat:dog:3]"], earlier=4)
    cat = pooled(model, "cat")
    assert [[bool(torch.allclose(row, cat)) for row in step] for step in made] == [
        [False, True, True, False],
        [False, True, False, False],
        [False, False, False, False],
        [False, False, False, False],
    ]
    away = run(model, ["cat"], "[red:dog:0.9]", earlier=4, scale=3.0)
    dog = pooled(model, "dog")
    torch.testing.assert_close(away[0, 0], dog + 3.0 * (cat - dog))


def test_guidance_leads_from_the_negative_prompt_to_the_prompt(model):
    made = run(model, ["cat"], "dog", scale=3.0)
    cat, dog = pooled(model, "cat"), pooled(model, "dog")
    torch.testing.assert_close(made[0, 0], dog + 3.0 * (cat - dog))


def test_and_adds_the_differences_with_their_weights(model):
    made = run(model, ["cat AND dog:0.5", "red"], scale=3.0)
    null, cat, dog, red = (pooled(model, text) for text in ("", "cat", "dog", "red"))
    torch.testing.assert_close(made[0, 0], null + 3.0 * ((cat - null) + 0.5 * (dog - null)))
    torch.testing.assert_close(made[0, 1], null + 3.0 * (red - null))


def test_a_text_is_the_same_with_and_without_the_language(model):
    assert model.text is not None
    literal, parsed = model.text(["red cat"], CPU), model.text.weighted([weighted("red cat")], CPU)
    for name in ("tokens", "token_valid", "vector"):
        assert torch.equal(getattr(literal, name), getattr(parsed, name))


def test_weights_multiply_the_vectors_of_their_words(model):
    assert model.text is not None
    plain, strong = (
        model.text.weighted([weighted(text)], CPU).tokens for text in ("red cat", "red (cat:1.5)")
    )
    assert plain is not None and strong is not None
    factors = torch.ones(6)
    factors[2] = 1.5  # after the start token and "red"
    torch.testing.assert_close(strong[0], factors[:, None] * plain[0])


def test_long_texts_have_as_many_chunks_as_they_need_and_short_ones_get_empty_ones(model):
    assert model.text is not None
    texts = [weighted("red blue green cat dog red blue"), weighted("cat"), weighted("cat BREAK dog")]
    both = model.text.weighted(texts, CPU)
    assert both.tokens is not None and both.tokens.shape == (3, 12, 8)
    empty, dog = (model.text([text], CPU).tokens[0] for text in ("", "dog"))
    torch.testing.assert_close(both.tokens[1, 6:], empty)
    torch.testing.assert_close(both.tokens[2, 6:], dog)


def test_tags_of_lora_files_are_refused_here(model):
    assert parse("cat <lora:ink:0.5>").loras
    with pytest.raises(ValueError, match="names LoRA files"):
        run(model, ["cat <lora:ink:0.5>"])
