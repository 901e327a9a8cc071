"""GLIDE's text transformer: learned padding, no mask, the last position as summary; and its training."""

import pytest
import torch

from foreign_images import golden
from foreign_policies import filled
from tolerance import golden_close
from unveil.image.networks.glide_text import GlideText, GlideTextShape
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.network.condition import Condition

SHAPE = GlideTextShape(12, 6, 16, 2, 4)
IDS = torch.tensor([[5, 1, 2, 11, 11, 11], [3, 4, 7, 11, 11, 11]])
VALID = torch.tensor([[True] * 3 + [False] * 3] * 2)


@pytest.fixture
def text() -> GlideText:
    torch.manual_seed(0)
    text = GlideText(SHAPE).eval()
    for parameter in text.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return text


def test_a_padding_row_is_learned_and_its_id_does_not_matter(text):
    """The whole row, with its position: another id or another position's vector changes nothing there."""
    other = IDS.clone()
    other[:, 3:] = 2
    one = text(IDS, VALID)
    assert torch.equal(one.tokens, text(other, VALID).tokens)
    text.positions.data[3:] += 1.0
    assert torch.equal(one.tokens, text(IDS, VALID).tokens)
    text.padding.data[4] += torch.randn(16)
    assert (one.tokens - text(IDS, VALID).tokens).abs().amin(-1).max() > 1e-4


def test_every_position_hears_every_other_and_padding_is_read(text):
    tokens, valid, pooled = text(IDS, VALID)
    assert bool(valid.all()) and torch.equal(pooled, tokens[:, -1])
    for at in range(3):
        changed = IDS.clone()
        changed[:, at] = 9
        assert bool(((text(changed, VALID).tokens - tokens).abs().amax(-1) > 1e-5).all()), at


def test_without_text_all_rows_are_padding_and_equal(text):
    tokens, _, _ = text(IDS, torch.zeros_like(VALID))
    assert torch.equal(tokens[0], tokens[1])


def test_fewer_or_more_tokens_than_positions_are_refused(text):
    with pytest.raises(ValueError, match="6 positions, and all are read; got rows of 5"):
        text(IDS[:, :5], VALID[:, :5])


def test_a_linear_vector_is_added_to_the_time_embedding_and_tokens_are_not_normed():
    """With `linear_vector` the time enters by time + W v, so W v = 0 for v = 0 leaves the bias alone; scaled
    tokens scale the keys, which a norm would undo."""
    torch.manual_seed(0)
    shape = UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4, context=6, vector=3)
    net = UNet2d(UNet2dShape(**vars(shape) | {"token_norm": False, "linear_vector": True}))
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    x, time, tokens = torch.randn(2, 2, 8, 8), torch.tensor([5.0, 9.0]), torch.randn(2, 4, 6)
    assert isinstance(net.vector, torch.nn.Linear) and net.vector.weight.shape == (32, 3)
    vector = torch.randn(2, 3)
    given = net(x, time, Condition(tokens=tokens, vector=vector))
    net.vector.weight.data *= 2.0  # W (v / 2) again, but for the bias, which is added once
    again = net(x, time, Condition(tokens=tokens, vector=0.5 * vector))
    torch.testing.assert_close(given, again)
    larger = net(x, time, Condition(tokens=3.0 * tokens, vector=0.5 * vector))
    assert float((larger - again).detach().abs().max()) > 1e-3


def test_it_is_the_originals():
    """glide-text2im's transformer on the weights of `filled`; `summary` is after its transformer_proj."""
    wanted = golden("glide")
    theirs = filled(wanted["base.shapes"])
    text = GlideText(GlideTextShape(20, 6, 128, 2, 2))
    ours = {"words.weight": theirs["token_embedding.weight"], "positions": theirs["positional_embedding"]}
    ours |= {"padding": theirs["padding_embedding"]}
    ours |= {f"norm.{end}": theirs[f"final_ln.{end}"] for end in ("weight", "bias")}
    for i in range(2):
        at, there = f"blocks.{i}", f"transformer.resblocks.{i}"
        for end in ("weight", "bias"):
            rows = theirs[f"{there}.attn.c_qkv.{end}"].unflatten(0, (2, 3, 64))  # heads, (q, k, v), width
            for k, part in enumerate(("query", "key", "value")):
                ours[f"{at}.attend.{part}.{end}"] = rows[:, k].flatten(0, 1)
            for mine, name in (("attend.merge", "attn.c_proj"), ("first_norm", "ln_1")):
                ours[f"{at}.{mine}.{end}"] = theirs[f"{there}.{name}.{end}"]
            for mine, name in (("second_norm", "ln_2"), ("rise", "mlp.c_fc"), ("fall", "mlp.c_proj")):
                ours[f"{at}.{mine}.{end}"] = theirs[f"{there}.{name}.{end}"]
    text.load_state_dict(ours)
    ids = torch.tensor([[5, 7, 19, 19, 19, 19], [3, 11, 2, 8, 1, 4]])
    valid = torch.tensor([[True] * 2 + [False] * 4, [True] * 6])
    with torch.no_grad():
        tokens, _, pooled = text(ids, valid)
        mapped = torch.nn.functional.linear(
            pooled, theirs["transformer_proj.weight"], theirs["transformer_proj.bias"]
        )
    golden_close(tokens, wanted["tokens"])
    golden_close(mapped, wanted["summary"])
