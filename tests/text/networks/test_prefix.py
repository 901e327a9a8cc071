"""Remembered context: what is read in two parts is what is read at once; block diffusion's mask;
autoregression; and who sees whom."""

import pytest
import torch

from unveil.network.condition import Condition
from unveil.text.networks.prefix import at_columns
from unveil.text.networks.transformer import LanguageTransformer, Rotation

V, L = 11, 7


def network(**options) -> LanguageTransformer:
    torch.manual_seed(0)
    made = LanguageTransformer(
        V, **({"width": 16, "depth": 3, "heads": 4, "kv_heads": 2, "theta": 50.0} | options)
    )
    for weight in made.parameters():
        weight.data = torch.randn_like(weight) * 0.3 + (1.0 if weight.ndim == 1 else 0.0)
    return made


def tokens(rows: int = 2, length: int = L, seed: int = 1) -> torch.Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


def influence(made, cond=None, length: int = 6) -> torch.Tensor:
    """(L, L) bool: whether the token at j changes the logits at i."""
    x = tokens(1, length)
    before, out = made(x, None, cond), []
    for j in range(length):
        changed = x.clone()
        changed[0, j] = (x[0, j] + 1) % V
        out.append((made(changed, None, cond) - before)[0].abs().amax(-1) > 0)
    return torch.stack(out, dim=1)


def test_blocks_see_themselves_and_those_before():
    number = torch.arange(6) // 2
    assert torch.equal(influence(network(block=2)), number[:, None] >= number)
    noised = Condition(prefix=network(block=2).prefill(tokens(1, 6, seed=3)))
    assert torch.equal(influence(network(block=2), noised), number[:, None] == number)
    assert torch.equal(influence(network(causal=True, begin=0)), torch.ones(6, 6, dtype=torch.bool).tril(-1))


@pytest.mark.parametrize("block", [1, 3])
def test_block_diffusion_is_the_published_mask_over_both_copies(block):
    """[x_t; x_0] at once, under the mask of Arriola et al. 2025, section 3.2, written out by loops; values
    and gradients."""
    made, x_t, x_0 = network(block=block), tokens(seed=2), tokens()
    mask = torch.zeros((2 * L, 2 * L), dtype=torch.bool)
    for q in range(2 * L):
        for k in range(2 * L):
            b_q, b_k = (q % L) // block, (k % L) // block
            same_half_and_block = (q < L) == (k < L) and b_q == b_k
            noised_sees_clean_before = q < L <= k and b_q > b_k
            clean_sees_clean = q >= L and k >= L and b_q >= b_k
            mask[q, k] = same_half_and_block or noised_sees_clean_before or clean_sees_clean
    h = made.wte(torch.cat([x_t, x_0], dim=1))
    rotation = Rotation(torch.arange(L).repeat(2)[None], made.size, made.theta)
    for layer in made.blocks:
        h, _ = layer(h, rotation, mask[None, None])
    expected = made.ff_out(made.ln_f(h[:, :L]))
    out = made(x_t, None, Condition(prefix=made.prefill(x_0)))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    parameters = [p for name, p in made.named_parameters() if name != "wte.weight"]
    for one, other in zip(
        *(torch.autograd.grad((o * weight).sum(), parameters) for o in (expected, out)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("options", [{"block": 3}, {"causal": True}, {"causal": True, "begin": 5}])
def test_blocks_after_remembered_ones_are_what_they_are_in_the_whole(options):
    made, x = network(**options).eval(), tokens()
    size = options.get("block", 1)
    with torch.no_grad():
        whole, prefix = made(x), None
        for start in range(0, L, size):
            stop = min(start + size, L)
            places = torch.arange(start, stop).expand(2, -1)
            told = Condition(places=places, prefix=prefix)
            torch.testing.assert_close(
                made(x[:, start:stop], None, told), whole[:, start:stop], rtol=1e-4, atol=1e-4
            )
            prefix = made.prefill(x[:, start:stop], told)
        assert prefix is not None
        for a, b in zip(prefix, made.prefill(x), strict=True):
            torch.testing.assert_close(a.expand_as(b), b, rtol=1e-4, atol=1e-4)


def test_an_autoregressive_network_is_a_causal_one_that_reads_a_token_late():
    plain, late, x = network(causal=True), network(causal=True, begin=5), tokens()
    read = torch.cat([torch.full((2, 1), 5), x[:, :-1]], dim=1)
    torch.testing.assert_close(late(x), plain(read))
    valid = torch.ones((2, 9), dtype=torch.bool)
    valid[:, :2] = False
    padded = torch.cat([tokens(2, 2, seed=8), x], dim=1)
    torch.testing.assert_close(
        late(padded, None, Condition(valid=valid))[:, 2:], late(x), rtol=1e-4, atol=1e-4
    )


def test_a_bidirectional_network_remembers_what_surrounds_a_window():
    """Exactly, while nothing in the window has changed since; rows are padded differently."""
    made, x = network().eval(), tokens()
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[1, :2] = False
    places = (valid.long().cumsum(1) - 1).clamp(min=0)
    window, rest = torch.tensor([[2, 4], [3, 6]]), torch.tensor([[0, 1, 3, 5, 6], [0, 1, 2, 4, 5]])
    with torch.no_grad():
        whole = made(x, None, Condition(valid=valid))
        prefix = at_columns(made.prefill(x, Condition(valid=valid)), rest)
        part = made(x.gather(1, window), None, Condition(places=places.gather(1, window), prefix=prefix))
        expected = whole.gather(1, window[..., None].expand(-1, -1, V))
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-4)
        changed = x.clone()
        changed[:, 2:4] = 0
        assert not torch.allclose(
            made(changed.gather(1, window), None, Condition(places=places.gather(1, window), prefix=prefix)),
            part,
        )


@pytest.mark.parametrize("options", [{}, {"block": 2}, {"causal": True}])
def test_only_what_is_asked_is_the_same(options):
    made, x = network(**options), tokens()
    positions = torch.tensor([[4, 0, 6], [2, 5, 5]])
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[0, 5:] = False
    for cond in (None, Condition(valid=valid)):
        expected = made(x, None, cond).gather(1, positions[..., None].expand(-1, -1, V))
        torch.testing.assert_close(made(x, None, cond, positions), expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_prefix_is_refused():
    with pytest.raises(ValueError, match="prefix must come from"):
        network()(tokens(), None, Condition(prefix=tokens()))
    with pytest.raises(ValueError, match="places must be of that shape"):
        network()(tokens(), None, Condition(places=torch.zeros((2, 3), dtype=torch.long)))
    with pytest.raises(ValueError, match="must be causal"):
        network(begin=0)
