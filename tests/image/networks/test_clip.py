"""CLIP's text encoder: causal, without a mask of padding, pooled at the end token, read from any layer."""

import pytest
import torch
from torch.nn import functional as F

from unveil.image.networks.clip import (
    STABLE_DIFFUSION_1,
    STABLE_DIFFUSION_2,
    ClipText,
    ClipTextShape,
    quick_gelu,
)

SHAPE = ClipTextShape(12, 6, 16, 3, 4, 32, end=9, projection=5)
IDS = torch.tensor([[8, 1, 2, 9, 9, 9], [8, 3, 11, 4, 9, 9]])
VALID = torch.tensor([[True] * 4 + [False] * 2, [True] * 5 + [False]])


@pytest.fixture
def clip() -> ClipText:
    torch.manual_seed(0)
    clip = ClipText(SHAPE).eval()
    for parameter in clip.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return clip


def test_a_token_depends_on_those_before_it_alone(clip):
    changed = IDS.clone()
    changed[:, 3] = 5
    one, other = clip(IDS, VALID).tokens, clip(changed, VALID).tokens
    torch.testing.assert_close(one[:, :3], other[:, :3], rtol=1e-5, atol=1e-6)
    assert bool(((one[:, 3:] - other[:, 3:]).abs().amax(-1) > 1e-3).all())  # the later ones depend on it


def test_padding_is_attended_to(clip):
    """Stable Diffusion reads all 77 positions: the mask changes nothing, and is true in the result."""
    tokens, valid, pooled = clip(IDS, VALID)
    again = clip(IDS, torch.ones_like(VALID))
    assert torch.equal(tokens, again.tokens) and torch.equal(pooled, again.pooled)
    assert bool(valid.all())


def test_pooled_is_the_projected_vector_at_the_end_token(clip):
    tokens, _, pooled = clip(IDS, VALID)
    expected = torch.stack([tokens[0, 3], tokens[1, 4]]) @ clip.projection.weight.T
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)


def test_the_largest_id_is_the_end_in_old_models_and_fails_with_added_words(clip):
    """The second text has the added word 11 at position 2, which is taken for its end."""
    torch.manual_seed(0)
    old = ClipText(ClipTextShape(12, 6, 16, 3, 4, 32)).eval()
    tokens, _, pooled = old(IDS, VALID)
    torch.testing.assert_close(pooled, torch.stack([tokens[0, 3], tokens[1, 2]]), rtol=1e-6, atol=1e-6)


def test_clip_skip_is_the_norm_of_an_earlier_layer(clip):
    shallow = ClipText(ClipTextShape(12, 6, 16, 2, 4, 32, end=9, projection=5)).eval()
    shallow.load_state_dict({n: v for n, v in clip.state_dict().items() if not n.startswith("blocks.2.")})
    skipped, whole = clip(IDS, VALID, 2), clip(IDS, VALID)
    torch.testing.assert_close(skipped.tokens, shallow(IDS, VALID).tokens, rtol=1e-6, atol=1e-6)
    assert torch.equal(skipped.pooled, whole.pooled)  # always that of the last layer
    assert float((clip(IDS, VALID, 3).tokens - skipped.tokens).detach().abs().max()) > 1e-3
    with pytest.raises(ValueError, match=r"`clip_skip` must be in 1 \.\. 3"):
        clip(IDS, VALID, 4)


def test_quick_gelu_is_near_gelu_but_not_it():
    x = torch.linspace(-4.0, 4.0, 81)
    difference = float((quick_gelu(x) - F.gelu(x)).abs().max())
    assert 0.015 < difference < 0.025  # Hendrycks & Gimpel 2016: about .02 at |x| of 2
    assert float(quick_gelu(torch.tensor(1.0))) == pytest.approx(1 / (1 + 2.718281828459045**-1.702))


@pytest.mark.parametrize(
    ("shape", "tensors", "parameters"),
    [(STABLE_DIFFUSION_1, 196, 123_060_480), (STABLE_DIFFUSION_2, 372, 340_387_840)],
)
def test_full_sizes_are_those_of_stable_diffusion(shape, tensors, parameters):
    with torch.device("meta"):
        encoder = ClipText(shape)
    assert len(encoder.state_dict()) == tensors
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters


def test_wrong_shapes_are_refused(clip):
    with pytest.raises(ValueError, match="`heads` 3 must divide the width 16"):
        ClipText(ClipTextShape(12, 6, 16, 3, 3, 32))
    with pytest.raises(ValueError, match="6 positions, got rows of 7 tokens"):
        clip(torch.zeros((1, 7), dtype=torch.int64), torch.ones((1, 7), dtype=torch.bool))
