"""Training of policies: batches of windows with their noise, and the loss of a batch."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.layers import seeded
from unveil.policy.data.chunks import Chunks
from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.networks.transformer import PolicyTransformer
from unveil.process.objective import denoising_loss


class PolicyBatch(NamedTuple):
    """Windows in the data's units, and all random numbers of their loss.

    Args:
        observations: (B, n_obs, D), or (B, H, D) where they are inpainted.
        actions: (B, H, A).
        t: (B,) in (0, 1]; multiples of 1 / T except for flow matching.
        noise: (B, H, row), standard normal.
        seed: seed of the network's dropout and of random crops.
        known: (B,), the number of known actions, beginning at the newest observation.
    """

    observations: Tensor
    actions: Tensor
    t: Tensor
    noise: Tensor
    seed: int
    known: Tensor


def policy_batches(chunks: Chunks, shape: PolicyShape, size: int) -> Callable[[torch.Generator], PolicyBatch]:
    """A source of random batches; the number of known actions is uniform in 0 .. prefix."""

    def draw(generator: torch.Generator) -> PolicyBatch:
        observations, actions = chunks.windows(chunks.draw(size, generator))
        if shape.predicts == "flow":
            t = 1.0 - torch.rand(size, generator=generator, device="cpu", dtype=torch.float64)
        else:
            index = torch.randint(shape.diffusion_steps, (size,), generator=generator, device="cpu")
            t = (1.0 + index).double() / shape.diffusion_steps
        noise = torch.randn((size, shape.horizon, shape.row), generator=generator, device="cpu")
        seed = int(torch.randint(2**31, (), generator=generator, device="cpu"))
        known = torch.zeros(size, dtype=torch.int64, device="cpu")
        if shape.prefix:  # without prefixes nothing is drawn, as in runs of versions without prefixes
            known = torch.randint(shape.prefix + 1, (size,), generator=generator, device="cpu")
        return PolicyBatch(observations, actions, t, noise, seed, known)

    return draw


def policy_loss(model: nn.Module, batch: PolicyBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Mean squared error of the network's output over all actions that are not known, padding included.

    Padding counts as published. Known actions stay clean in x_t, as `Inpaint` keeps them when acting; the
    network learns the others conditioned on them.
    """
    assert isinstance(model, PolicyModel)
    x_0, cond, known = clean_of(model, batch)
    noise = batch.noise.to(model.device)
    return denoising_loss(model.denoiser, x_0, batch.t, noise, cond=cond, known=known).mean(), {}


def clean_of(model: PolicyModel, batch: PolicyBatch) -> tuple[Tensor, Condition, Tensor | None]:
    """Normalised rows (B, H, row), the network's condition, and the mask of known numbers.

    Dropout and crops follow the batch's seed.
    """
    device, network = model.device, model.denoiser.network
    if isinstance(network, PolicyTransformer):
        network.generator = seeded(device, batch.seed)
    counts = batch.known.to(device)
    crops = torch.Generator(device="cpu").manual_seed(batch.seed)
    cond = model.condition(batch.observations.to(device), counts, crops)
    shape, inpainted = model.shape, model.shape.condition == "inpainting"
    known = shape.known(counts) if shape.prefix or inpainted else None
    actions = model.acted.normalized(batch.actions.to(device))
    observations = model.observed.normalized(batch.observations.to(device)) if inpainted else actions
    return shape.rows(actions, observations), cond, known
