"""The language transformer against a naive one written out by loops; who sees whom; padding; and the head
where it is asked."""

import math

import pytest
import torch

from unveil.network.condition import Condition
from unveil.text.networks.transformer import LanguageTransformer, RMSNorm, Rotation

V = 11
LLADA = ("attn_norm", "ff_norm", "q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out")


def network(**options) -> LanguageTransformer:
    torch.manual_seed(0)
    made = LanguageTransformer(V, **({"width": 16, "depth": 2, "heads": 4} | options))
    for weight in made.parameters():  # nothing is 1 or nearly 0
        weight.data = torch.randn_like(weight) * 0.3 + (1.0 if weight.ndim == 1 else 0.0)
    return made


def tokens(rows: int = 2, length: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


def naive(weights: dict, x: list[int], heads: int, kv_heads: int, theta: float, causal: bool) -> torch.Tensor:
    """LLaMA's forward pass of one sequence, one head and one position at a time, in float64."""
    w = {name: value.double() for name, value in weights.items()}

    def norm(v, weight):
        return v / math.sqrt(float((v * v).mean()) + 1e-5) * weight

    def turned(v, place):
        out, half = v.clone(), len(v) // 2
        for i in range(half):
            angle = place * theta ** (-2 * i / len(v))
            out[i] = v[i] * math.cos(angle) - v[i + half] * math.sin(angle)
            out[i + half] = v[i + half] * math.cos(angle) + v[i] * math.sin(angle)
        return out

    h = [w["wte.weight"][token] for token in x]
    size = len(h[0]) // heads
    for b in range(2):
        p = f"blocks.{b}."
        n = [norm(v, w[p + "attn_norm.weight"]) for v in h]
        joined = []
        for i in range(len(x)):
            parts = []
            for head in range(heads):
                own, shared = slice(head * size, (head + 1) * size), head // (heads // kv_heads)
                kept = slice(shared * size, (shared + 1) * size)
                q = turned((w[p + "q_proj.weight"] @ n[i])[own], i)
                seen = range(i + 1) if causal else range(len(x))
                scores = torch.stack(
                    [q @ turned((w[p + "k_proj.weight"] @ n[j])[kept], j) / math.sqrt(size) for j in seen]
                )
                values = torch.stack([(w[p + "v_proj.weight"] @ n[j])[kept] for j in seen])
                parts.append(scores.softmax(0) @ values)
            joined.append(torch.cat(parts))
        h = [v + w[p + "attn_out.weight"] @ a for v, a in zip(h, joined, strict=True)]
        for i, v in enumerate(h):
            m = norm(v, w[p + "ff_norm.weight"])
            gate, up = w[p + "ff_proj.weight"] @ m, w[p + "up_proj.weight"] @ m
            h[i] = v + w[p + "ff_out.weight"] @ (gate * torch.sigmoid(gate) * up)
    head = w.get("ff_out.weight", w["wte.weight"])
    return torch.stack([head @ norm(v, w["ln_f.weight"]) for v in h])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kv_heads", "tied"), [(0, False), (2, True), (1, False)])
def test_it_is_the_published_computation(causal, kv_heads, tied):
    made = network(kv_heads=kv_heads, causal=causal, tied=tied, theta=50.0)
    x = tokens()
    expected = torch.stack(
        [naive(made.state_dict(), row.tolist(), 4, kv_heads or 4, 50.0, causal) for row in x]
    )
    torch.testing.assert_close(made.eval()(x).double(), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # the fused kernel
        torch.testing.assert_close(made(x).double(), expected, rtol=1e-4, atol=1e-5)


def test_the_names_are_lladas():
    names = set(network().state_dict())
    each = {f"blocks.{i}.{name}.weight" for i in (0, 1) for name in LLADA}
    assert names == each | {"wte.weight", "ln_f.weight", "ff_out.weight"}
    assert "ff_out.weight" not in network(tied=True).state_dict()
    assert LanguageTransformer(5, 192, 1, 6).blocks[0].ff_proj.weight.shape == (512, 192)


def influence(made, length: int = 6) -> torch.Tensor:
    """(L, L) bool: whether the token at j changes the logits at i."""
    x = tokens(1, length)
    before = made(x)
    out = []
    for j in range(length):
        changed = x.clone()
        changed[0, j] = (x[0, j] + 1) % V
        out.append((made(changed) - before)[0].abs().amax(-1) > 0)
    return torch.stack(out, dim=1)


def test_causal_leaks_nothing_and_bidirectional_sees_everything():
    assert torch.equal(influence(network(causal=True)), torch.ones(6, 6, dtype=torch.bool).tril())
    assert bool(influence(network()).all())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_a_padded_row_is_what_it_is_alone(causal, left):
    made, x = network(causal=causal).eval(), tokens(1, 5)
    valid = torch.ones((2, 8), dtype=torch.bool)
    valid[0] = torch.tensor([not left] * 3 + [True] * 2 + [left] * 3)
    batch = tokens(2, 8, seed=7)
    batch[0, valid[0]] = x[0]
    for gradient in (False, True):
        with torch.set_grad_enabled(gradient):
            out = made(batch, None, Condition(valid=valid))
            torch.testing.assert_close(out[0, valid[0]], made(x)[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(out[1], made(batch[1:])[0], rtol=1e-5, atol=1e-5)
            assert bool(torch.isfinite(out).all())


def test_the_head_where_it_is_asked():
    made, x = network(), tokens()
    positions = torch.tensor([[4, 0], [2, 5]])
    expected = made(x).gather(1, positions[..., None].expand(-1, -1, V))
    torch.testing.assert_close(made(x, None, None, positions), expected)


def test_rotation_depends_on_distance_only_and_norms_on_direction_only():
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def score(i, j):
        return float(
            (
                Rotation(torch.tensor([[i]]), 8, 100.0).turn(q)
                * Rotation(torch.tensor([[j]]), 8, 100.0).turn(k)
            ).sum()
        )

    assert score(3, 1) == pytest.approx(score(12, 10), abs=1e-5)
    assert abs(score(3, 1) - score(1, 3)) > 1e-3
    x = torch.randn(3, 16)
    torch.testing.assert_close(RMSNorm(16)(5.0 * x), RMSNorm(16)(x), rtol=1e-4, atol=1e-4)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of twice `heads`"):
        LanguageTransformer(V, 18, 1, 4)
    with pytest.raises(ValueError, match="`heads` of `kv_heads`"):
        LanguageTransformer(V, 16, 1, 4, kv_heads=3)
    with pytest.raises(ValueError, match="valid must be of that shape"):
        network()(tokens(), None, Condition(valid=torch.ones((2, 3), dtype=torch.bool)))
