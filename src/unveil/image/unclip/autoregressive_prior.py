"""Priors of unCLIP: image embeddings for texts, one principal component after another."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.generation import noise_by_sample
from unveil.image.networks.code_transformer import CodesShape, CodeTransformer
from unveil.image.networks.prior import PriorShape
from unveil.image.unclip.prior_model import USUAL, EmbeddedImages, best_of, captioned
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.network.condition import Condition
from unveil.sampling.noise import Noise, uniform_like


class AutoregressivePrior(nn.Module):
    """The autoregressive prior p(z_i | y) = prod_k p(c_k | c_1 .. c_k-1, y) over codes of an embedding.

    The codes are the K first principal components of the embedding, by falling variance, each as one of
    `bins` values. Before them stands a token of the product z_i . z_t, as one of equally frequent values; in
    sampling it is drawn from the upper half. The null condition of guidance is the encoded empty prompt with
    an unknown product; it sees the codes so far. Ramesh et al. 2022, section 2.2.

    Args:
        text: as of a `PriorModel`.
        unit: embeddings have norm 1, and so have those that are drawn.
    """

    mean: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor
    edges: Tensor

    def __init__(self, shape: PriorShape, codes: CodesShape, text: nn.Module, unit: bool = True) -> None:
        super().__init__()
        self.shape, self.codes, self.unit = shape, codes, unit
        self.network = CodeTransformer(shape, codes)
        self.register_buffer("mean", torch.zeros(shape.embedding))
        self.register_buffer("axes", torch.zeros(shape.embedding, codes.dimensions))
        self.register_buffer("low", torch.zeros(codes.dimensions))
        self.register_buffer("high", torch.ones(codes.dimensions))
        self.register_buffer("edges", torch.zeros(codes.products - 1))  # between values of the product
        self._apart = (text,)  # in a tuple, it is no submodule

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AutoregressivePrior":
        self._apart[0]._apply(fn)  # moves to a device with the model
        return super()._apply(fn, recurse)

    @property
    def text(self) -> nn.Module:
        """What reads prompts."""
        return self._apart[0]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mean.device

    def fit(self, embeddings: Float[Tensor, "N E"], products: Float[Tensor, " M"]) -> None:
        """Find the principal components, their ranges, and the values of the product of the training data."""
        self.mean, self.axes = principal_components(embeddings, self.codes.dimensions)
        parts = (embeddings - self.mean) @ self.axes
        self.low, self.high = parts.amin(0), parts.amax(0)
        shares = torch.linspace(0.0, 1.0, self.codes.products + 1, dtype=torch.float64, device="cpu")[1:-1]
        self.edges = products.double().quantile(shares).to(products)

    def quantized(self, embeddings: Float[Tensor, "B E"]) -> Int[Tensor, "B K"]:
        """The codes of embeddings; components beyond the range of the training data get the outermost."""
        parts = (embeddings.to(self.mean) - self.mean) @ self.axes
        share = (parts - self.low) / (self.high - self.low).clamp(min=1e-12)
        return (share * self.codes.bins).long().clamp(0, self.codes.bins - 1)

    def embeddings(self, codes: Int[Tensor, "B K"]) -> Float[Tensor, "B E"]:
        """Embeddings of codes, at the middle of each value; of norm 1 with `unit`.

        Before that, a component within the range differs from that of the quantized embedding by at most half
        a value, (high - low) / (2 bins).
        """
        share = (codes.to(self.mean) + 0.5) / self.codes.bins
        made = self.mean + (self.low + share * (self.high - self.low)) @ self.axes.T
        return F.normalize(made, dim=-1) if self.unit else made

    def products(self, embeddings: Float[Tensor, "B E"], texts: Float[Tensor, "B E"]) -> Int[Tensor, " B"]:
        """The value of the cosine of image and text embeddings."""
        cosines = torch.cosine_similarity(embeddings.to(texts), texts, dim=1)
        return torch.bucketize(cosines.to(self.edges), self.edges)

    def condition(self, prompts: Sequence[str]) -> Condition:
        """The condition of B prompts."""
        return self.text(prompts, self.device)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[str], settings: PriorSettings = USUAL, generator: Noise | int = None
    ) -> Float[Tensor, "B E"]:
        """Draw an image embedding for each of B prompts; as `PriorModel.sample`. `prior_steps` is not used:
        there is one network call per component."""
        count, each, scale = len(prompts), settings.candidates, settings.prior_scale
        rows, unknown, guided = count * each, self.codes.products, scale != 1.0
        self.eval()
        own = noise_by_sample(generator, count)(slice(0, count))
        cond = self.condition(prompts).repeat(each)
        both = self.condition([""] * count).repeat(each).cat(cond) if guided else cond
        place = torch.empty(rows, device=self.device)
        upper = 0.5 + 0.5 * uniform_like(place, own)  # share of smaller products in training
        products = (upper * unknown).long().clamp(max=unknown - 1)
        seen = torch.cat([torch.full_like(products, unknown), products]) if guided else products
        codes = torch.empty((rows, 0), dtype=torch.int64, device=self.device)
        for _ in range(self.codes.dimensions):
            logits = self.network(codes.repeat(2, 1) if guided else codes, seen, both)[:, -1].double()
            if guided:
                null, told = logits.chunk(2)
                logits = null + scale * (told - null)
            passed = logits.softmax(-1).cumsum(-1) <= uniform_like(place, own)[:, None]
            drawn = passed.sum(-1).clamp(max=self.codes.bins - 1)
            codes = torch.cat([codes, drawn[:, None]], dim=1)
        return best_of(self.embeddings(codes), cond.vector, each)


def check_dimensions(count: int, width: int) -> None:
    """Refuse more components than an embedding has numbers.

    Raises:
        ValueError: there are more.
    """
    if count > width:
        raise ValueError(f"`dimensions` {count}: the embeddings have {width} numbers; take at most as many")


def principal_components(
    embeddings: Float[Tensor, "N E"], count: int
) -> tuple[Float[Tensor, " E"], Float[Tensor, "E K"]]:
    """The mean, and the `count` orthonormal axes of largest variance, by falling variance.

    Raises:
        ValueError: more axes than the embeddings have numbers.
    """
    check_dimensions(count, embeddings.shape[1])
    mean = embeddings.mean(0)
    centred = (embeddings - mean).double()
    _, axes = torch.linalg.eigh(centred.T @ centred)  # by rising variance
    axes = axes.flip(1)[:, :count]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return mean, (axes * largest.sign()).to(embeddings)  # of the two directions, always the same


class CodesBatch(NamedTuple):
    """Embeddings (B, E) and their captions, "" where they are dropped."""

    embeddings: Tensor
    prompts: tuple[str, ...]


def codes_batches(data: EmbeddedImages, size: int, drop: float) -> Callable[[torch.Generator], CodesBatch]:
    """A function from a generator to a random batch; arguments as of `prior_batches`."""

    def draw(generator: torch.Generator) -> CodesBatch:
        return CodesBatch(*captioned(data, size, drop, generator))

    return draw


def codes_loss(model: nn.Module, batch: CodesBatch) -> tuple[Tensor, Mapping[str, float]]:
    """-log p of the codes, in nats per component, averaged over the batch."""
    assert isinstance(model, AutoregressivePrior)
    cond = model.condition(batch.prompts)
    assert cond.vector is not None
    codes = model.quantized(batch.embeddings.to(model.device))
    products = model.products(batch.embeddings.to(model.device), cond.vector)
    empty = torch.tensor([not prompt for prompt in batch.prompts], device=model.device)
    logits = model.network(codes[:, :-1], torch.where(empty, model.codes.products, products), cond)
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten()), {}
