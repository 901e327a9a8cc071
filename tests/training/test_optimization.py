"""What the optimizer is given, against AdamW written out: clipped gradients, and the rate of this very
step."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from unveil.training.trainer import Training, train


def drawn(generator: torch.Generator) -> torch.Tensor:
    """Gradients with norms from below to far above 1."""
    return torch.randn(4, generator=generator, dtype=torch.float64) * 10.0 ** (
        2.0 * torch.rand((), generator=generator) - 1.5
    )


class Plane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64))


def loss(model: nn.Module, c: torch.Tensor):
    assert isinstance(model, Plane)
    return (model.w * c).sum(), {}  # whose gradient is c, whatever the weights are


@pytest.mark.parametrize("clip", [0.7, float("inf")])
def test_steps_are_adamws_of_clipped_gradients_at_the_rate_of_the_step(tmp_path, clip):
    """Loshchilov & Hutter 2019, alg. 2, with g = c min(1, clip / |c|); a rate of the step before, or no
    clipping, would be seen."""
    training = Training(
        steps=12,
        learning_rate=0.1,
        warmup=4,
        final_fraction=0.1,
        weight_decay=0.3,
        betas=(0.8, 0.95),
        clip=clip,
        log_every=1,
        ema=0.0,
    )
    train(model := Plane(), drawn, loss, training, tmp_path)
    generator = torch.Generator(device="cpu").manual_seed(training.seed)
    w, m, v, norms = np.array([1.0, -2.0, 0.5, 3.0]), np.zeros(4), np.zeros(4), []
    for k in range(12):
        c = drawn(generator).numpy()
        norms.append(float(np.linalg.norm(c)))
        g = c * min(1.0, clip / norms[-1])
        rate = 0.1 * (k + 1) / 4 if k < 4 else 0.1 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (k - 4) / 8)))
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        w = w * (1 - rate * 0.3) - rate * (m / (1 - 0.8 ** (k + 1))) / (
            np.sqrt(v / (1 - 0.95 ** (k + 1))) + 1e-8
        )
    assert min(norms) < 0.7 < max(norms)
    np.testing.assert_allclose(model.w.detach().numpy(), w, rtol=1e-5)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([r["gradient_norm"] for r in records], norms, rtol=1e-5)  # before clipping
    assert [r["learning_rate"] for r in records] == [training.rate(k) for k in range(12)]


def test_the_average_is_constant_where_its_power_is_0(tmp_path):
    """average <- d average + (1 - d) w, with the weights of each step."""
    training, seen = Training(steps=5, learning_rate=0.1, warmup=0, ema=0.6, ema_power=0.0, log_every=1), []
    model = Plane()
    average = model.w.detach().clone()
    found = train(
        model, drawn, loss, training, tmp_path, on_record=lambda _: seen.append(model.w.detach().clone())
    )
    for w in seen:
        average = 0.6 * average + 0.4 * w
    torch.testing.assert_close(found["w"], average)
