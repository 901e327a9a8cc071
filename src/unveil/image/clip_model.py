"""CLIP: an image tower and a text tower with a joint embedding, of clean or of noisy images."""

from collections.abc import Mapping, Sequence
from math import comb, log

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.classifier import classifier_network, noisy_input
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.shape import ImageShape
from unveil.image.shape_parts import image_schedule
from unveil.image.training import ImageBatch
from unveil.network.layers import seeded
from unveil.process.corrupt import corrupt
from unveil.sampling.edit import LogPotential

FIRST_SCALE, LARGEST_SCALE = 1.0 / 0.07, 100.0  # of the logits. Radford et al. 2021, section 2.5


class ClipModel(nn.Module):
    """Embeddings of images (B, C, S, S) in -1 .. 1 and of texts, whose scaled cosines are logits.

    Radford et al. 2021. With `noised` the image tower sees x_t and t, as in Nichol et al. 2021 (GLIDE),
    section 2.4, and guides a diffusion model of the same schedule.

    Args:
        shape: as of an `ImageModel`: its image tower is the first half of that U-Net with attention pooling,
            as of an `ImageClassifier`; null, predicts, learned_variance and sigma_data are not used.
        width: E, the width of the embeddings.
        text: reads texts; its pooled vector is mapped to an embedding.
        noised: trained on noisy images; else inputs are taken to be clean.
        network: replaces the image tower: (x (B, C, S, S), time (B,)) -> (B, E).
        projection: replaces the linear map of the pooled text to the embedding.
        counted_from: index of the table's first entry; the time input is T t - 1 + counted_from.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        text: TextConditioning,
        noised: bool = False,
        network: nn.Module | None = None,
        projection: nn.Module | None = None,
        counted_from: int = 1,
    ) -> None:
        super().__init__()
        self.shape, self.width, self.noised, self.counted_from = shape, width, noised, counted_from
        self.schedule = image_schedule(shape)
        self.network = classifier_network(shape, classes=width) if network is None else network
        self.text = text
        self.projection = (
            nn.Linear(shape.pooled, width, bias=False) if projection is None else projection
        )  # of the pooled text
        self.log_scale = nn.Parameter(torch.tensor(log(FIRST_SCALE)))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def scale(self) -> Tensor:
        """Factor of the cosines, exp(log_scale), at most 100."""
        return self.log_scale.clamp(max=log(LARGEST_SCALE)).exp()

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels 0 .. 255 as -1 .. 1, on the model's device."""
        return pixels.to(self.device, torch.float32) / 127.5 - 1.0

    def image_embedding(
        self, x: Float[Tensor, "B C S S"], t: Float[Tensor, " B"] | None = None, unit: bool = True
    ) -> Float[Tensor, "B E"]:
        """Embeddings of images.

        Args:
            x: in -1 .. 1, or the noisy x_t of `t`.
            t: times in 0 .. 1; None: clean images.
            unit: divide each by its norm.
        Raises:
            ValueError: images of another shape.
        """
        shape = self.shape
        if x.shape[1:] != (shape.channels, shape.size, shape.size):
            raise ValueError(
                f"this CLIP reads images of {shape.channels} x {shape.size} x {shape.size} (colours, height, "
                f"width), got {tuple(x.shape[1:])}"
            )
        times = self.cleanest(len(x)) if t is None else t
        seen = noisy_input(self.schedule, shape, x, times, not self.noised, self.counted_from)
        embedding = self.network(*seen)
        return F.normalize(embedding, dim=-1) if unit else embedding

    def text_embedding(self, prompts: Sequence[str], unit: bool = True) -> Float[Tensor, "B E"]:
        """Embeddings of texts.

        Args:
            unit: divide each by its norm.
        """
        pooled = self.text(prompts, self.device).vector
        assert pooled is not None
        embedding = self.projection(pooled)
        return F.normalize(embedding, dim=-1) if unit else embedding

    def log_similarity(self, prompts: Sequence[str]) -> LogPotential:
        """(x_t, t) -> scale * cosine of image and text, (B,), as `tilted` and `Ancestral` expect it.

        Nichol et al. 2021, section 2.4: its gradient replaces that of log p(text | x_t).
        """
        texts = self.text_embedding(prompts).detach()

        def log_h(x_t: Tensor, t: Tensor) -> Tensor:
            embedding = self.image_embedding(x_t, t)
            return self.scale.detach() * torch.einsum("be,be->b", embedding, texts.to(embedding))

        return log_h

    @torch.no_grad()
    def described(
        self, pixels: Tensor, batch: int = 256, t: float = 0.0, generator: torch.Generator | None = None
    ) -> Float[Tensor, "N E"]:
        """Unit embeddings, on the CPU, of clean images (N, C, S, S), 0 .. 255.

        Args:
            t: time to which the images are noised first, for a model of noisy images.
            generator: of that noise.
        """
        self.eval()
        made: list[Tensor] = []
        for start in range(0, len(pixels), batch):
            x, times = self.normalized(pixels[start : start + batch]), None
            if t > 0.0:
                noise = torch.randn(x.shape, generator=generator, device="cpu").to(x)
                times = torch.full((len(x),), t, dtype=torch.float64, device="cpu")
                x = corrupt(self.schedule, x, times, noise)
            made.append(self.image_embedding(x, times).cpu())
        return torch.cat(made)

    @torch.no_grad()
    def read(self, prompts: Sequence[str], batch: int = 256) -> Float[Tensor, "N E"]:
        """Unit embeddings of N texts, on the CPU."""
        self.eval()
        parts = (self.text_embedding(prompts[i : i + batch]).cpu() for i in range(0, len(prompts), batch))
        return torch.cat([*parts])

    def cleanest(self, count: int) -> Tensor:
        """The times (B,) of clean images: the first entry of the table, which the tower was trained on."""
        least = 1.0 / self.shape.diffusion_steps if self.noised else 0.0
        return torch.full((count,), least, dtype=torch.float64, device="cpu")


def contrastive_loss(
    images: Float[Tensor, "B E"], texts: Float[Tensor, "B E"], positive: Bool[Tensor, "B B"], scale: Tensor
) -> Tensor:
    """Symmetric cross-entropy of the logits scale <image_i, text_j>, averaged over the batch.

    Radford et al. 2021, figure 3. The target of a row, or of a column, is uniform over its positives: texts
    that are equal are right for each other's images (Yang et al. 2022, eq. 2-4).

    Args:
        images, texts: unit embeddings.
        positive: [i, j]: text j is right for image i; each row and column has one or more.
    """
    logits = scale * images @ texts.T
    target = positive.to(logits)
    rows = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    columns = F.cross_entropy(logits.T, (target / target.sum(0, keepdim=True)).T)
    return 0.5 * (rows + columns)


def clip_loss(model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Mapping[str, float]]:
    """`contrastive_loss` of images and their captions, the scale, and the accuracy image -> text."""
    assert isinstance(model, ClipModel) and batch.prompts is not None
    if model.shape.dropout:
        model.network.generator = seeded(model.device, batch.seed)  # pyright: ignore[reportArgumentType]
    x, t = model.normalized(batch.pixels), None
    if model.noised:
        t = batch.t
        x = corrupt(model.schedule, x, t, batch.noise.to(model.device))
    images, texts = model.image_embedding(x, t), model.text_embedding(batch.prompts)
    positive = equal(batch.prompts, batch.prompts).to(images.device)
    loss = contrastive_loss(images, texts, positive, model.scale)
    best = (images @ texts.T).argmax(1, keepdim=True)
    return loss, {"accuracy": float(positive.gather(1, best).double().mean()), "scale": float(model.scale)}


def equal(first: Sequence[str], second: Sequence[str]) -> Bool[Tensor, "N M"]:
    """[i, j]: texts i and j are equal, on the CPU."""
    numbers = {text: k for k, text in enumerate(dict.fromkeys([*first, *second]))}
    rows, columns = (torch.tensor([numbers[text] for text in part], device="cpu") for part in (first, second))
    return rows[:, None] == columns


def recall(scores: Float[Tensor, "Q N"], positive: Bool[Tensor, "Q N"], k: int) -> float:
    """R@k: share of the queries that have a positive among the `k` candidates of the highest scores.

    Candidates of the same score count as ranked at random: a query whose best positives tie with others is
    counted by the chance that one of them is among the k.
    """
    k = min(k, scores.shape[1])
    best = scores.masked_fill(~positive, -torch.inf).amax(1, keepdim=True)  # (Q, 1)
    above = (scores > best).sum(1).tolist()
    ties = (scores == best).sum(1).tolist()
    right = ((scores == best) & positive).sum(1).tolist()
    chances = [
        _chance(tied, hits, k - before) if before < k else 0.0
        for before, tied, hits in zip(above, ties, right, strict=True)
    ]
    return sum(chances) / len(chances)


def chance(positive: Bool[Tensor, "Q N"], k: int) -> float:
    """R@k of random ranks: the mean of 1 - C(N - m, k) / C(N, k), for queries with m positives."""
    count = positive.shape[1]
    each = [_chance(count, right, min(k, count)) for right in positive.sum(1).tolist()]
    return sum(each) / len(each)


def _chance(count: int, right: int, k: int) -> float:
    """Chance that `k` of `count` at random contain one of `right`."""
    return 1.0 - comb(count - right, k) / comb(count, k) if k < count else 1.0
