"""unCLIP: retrieval by its CLIP, priors, what the decoder makes of their embeddings, variations, interpolation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latent.program import Rows
from latent.rows import CHOSEN_ON, REPORTED_ON, Bench, mean, rate, row_of, with_seed
from latent.shapes import CHOICE_COUNT, COUNT, KINDS, SIZE, STEPS, cells, chosen, scenes_of
from text_to_image.data import REAL, REAL_ON, true_pictures
from text_to_image.judged import CHOICES, attributes, captions, sampled, spent
from unveil.image.clip_model import ClipModel, chance, equal, recall
from unveil.image.data.shapes import Scene
from unveil.image.evaluation.shapes import scores
from unveil.image.generation import Given
from unveil.image.inversion import inverted, slerp
from unveil.image.model import ImageModel
from unveil.image.recipes.clip.load import load_clip
from unveil.image.recipes.load import load_image
from unveil.image.recipes.prior.load import load_prior
from unveil.image.settings import ImageSettings
from unveil.image.unclip.image_embeddings import image_embeddings
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.runs.statistics import wilson_ci95

PRIORS = ("diffusion", "autoregressive")
ARMS = {
    "prior": ("diffusion", True),
    "prior-autoregressive": ("autoregressive", True),
    "text": ("text", True),
    "caption": ("", True),
    "prior-alone": ("diffusion", False),
    "text-alone": ("text", False),
    "none": ("", False),
}
"""What the decoder is given: whose embedding ("text": that of the caption, "": none), and whether the caption."""
SOURCES, EACH = 50, 4  # pictures of each kind that are varied, and variations of each
PATHS, POINTS = 50, 7
INVERSION = ImageSettings("ddim", steps=25)
VARIED = ImageSettings("ddim", steps=25, eta=1.0)


def retrieval(bench: Bench, seed: int) -> dict[str, Any]:
    """R@1 among pictures of one kind that no training shows, in both directions, beside random ranks."""
    clip, found = load_clip(bench.finished(with_seed("clip", seed)), "cpu"), dict[str, Any]()
    for kind in KINDS:
        scenes = scenes_of(kind, bench.few(COUNT), REPORTED_ON)
        texts = captions(scenes)
        images = clip.described(torch.from_numpy(true_pictures(scenes, SIZE)))
        different = tuple(dict.fromkeys(texts))
        scores_of = clip.read(different) @ images.T
        positive = equal(different, texts)
        for way, values, right in (
            ("text_to_image", scores_of, positive),
            ("image_to_text", scores_of.T, positive.T),
        ):
            stem, total = f"{kind.name}_{way}", len(values)
            hits = recall(values, right, 1)
            low, high = wilson_ci95(round(hits * total), total)
            found |= {stem: hits, f"{stem}_low": low, f"{stem}_high": high, f"{stem}_n": total}
            found[f"{stem}_chance"] = chance(right, 1)
    return found | spent(bench, seed, "clip")


def drawn_by(source: str, bench: Bench, seed: int, noise: int) -> Callable[[list[str]], Tensor | None]:
    """A function from captions to embeddings, (N, E) or None.

    Args:
        source: as in `ARMS`.
        noise: seed of the prior's noise.
    """
    if not source:
        return lambda texts: None
    if source == "text":
        clip = load_clip(bench.finished(with_seed("clip", seed)), "cpu")
        return clip.read
    prior = load_prior(bench.finished(with_seed(f"prior-{source}", seed)), "cpu")
    return lambda texts: prior.sample(texts, PriorSettings(), noise)


def cosines(bench: Bench, seed: int, kind_of_prior: str) -> dict[str, Any]:
    """Cosines of a prior's embeddings with those of true pictures of the captions, seen and held out; beside
    those of the texts' embeddings, and of the mean of other pictures' embeddings."""
    clip = load_clip(bench.finished(with_seed("clip", seed)), "cpu")
    draw = drawn_by(kind_of_prior, bench, seed, REPORTED_ON)
    others = [scene for kind in KINDS if not kind.held for scene in scenes_of(kind, bench.few(REAL), REAL_ON)]
    average = _embedded(clip, others).mean(0, keepdim=True)
    found: dict[str, Any] = {}
    for held in (False, True):
        kinds = [kind for kind in KINDS if kind.held == held]
        scenes = [scene for kind in kinds for scene in scenes_of(kind, bench.few(COUNT), REPORTED_ON)]
        texts, images = captions(scenes), _embedded(clip, scenes)
        made = draw(texts)
        assert made is not None
        for name, one in (("prior", made), ("text", clip.read(texts)), ("average", average)):
            values = F.cosine_similarity(one.cpu(), images).numpy()
            found |= mean(f"{'held' if held else 'seen'}_{name}", values)
    return found | spent(bench, seed, f"prior-{kind_of_prior}", "clip")


def _embedded(clip: ClipModel, scenes: list[Scene]) -> Tensor:
    return image_embeddings(clip, torch.from_numpy(true_pictures(scenes, SIZE)))


def decoding(arm: str, bench: Bench, seed: int, noise: int) -> Callable[[list[Scene], float], np.ndarray]:
    """A function from scenes and a scale of guidance to pictures."""
    model = load_image(bench.finished(with_seed("decoder", seed)), "cpu")
    source, worded = ARMS[arm]
    draw = drawn_by(source, bench, seed, noise)

    def make(scenes: list[Scene], scale: float) -> np.ndarray:
        texts = captions(scenes)
        given = Given(prompts=texts if worded else None, embeddings=draw(texts))
        return sampled(model, len(scenes), given, scale, noise)

    return make


def choice(arm: str, bench: Bench, seed: int) -> dict[str, Any]:
    """The scale of the decoder's guidance, of each arm its own."""
    make = decoding(arm, bench, seed, CHOSEN_ON)
    return chosen(make, bench.few(CHOICE_COUNT), CHOICES) | {"steps": STEPS}


def decoded(arm: str, bench: Bench, seed: int) -> dict[str, Any]:
    """What the decoder makes, at the chosen scale; given nothing, without guidance."""
    scale = 1.0
    if arm != "none":
        scale = float(row_of(with_seed(f"choice-decoder-{arm}", seed), bench)["chosen_scale"])
    make = decoding(arm, bench, seed, REPORTED_ON)
    source = ARMS[arm][0]
    parts = ("decoder", "clip", *((f"prior-{source}",) if source in PRIORS else ()))
    said = {"scale": scale, "steps": STEPS} | spent(bench, seed, *parts)
    return attributes(partial(make, scale=scale), bench) | said


def rms(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Root mean square of the difference of two pictures, in levels 0 .. 255, (N,)."""
    apart = (first.astype(np.float64) - second.astype(np.float64)) ** 2
    return apart.reshape(len(first), -1).mean(1) ** 0.5


def variations(bench: Bench, seed: int) -> dict[str, Any]:
    """Variations of true pictures: whether they keep what the picture shows, and how far apart they are."""
    model, clip = _decoder(bench, seed)
    found: dict[str, Any] = {}
    between, scenes_apart = list[np.ndarray](), list[np.ndarray]()
    for kind in (kind for kind in KINDS if not kind.held):
        scenes = scenes_of(kind, bench.few(SOURCES), REPORTED_ON)
        real = true_pictures(scenes, SIZE)
        z, noise = _inverted(model, clip, real)
        rows = np.repeat(np.arange(len(scenes)), EACH)
        places = torch.from_numpy(rows)
        given = Given(embeddings=z[places])
        made = sampled(model, len(rows), given, VARIED, REPORTED_ON, noise=noise[places])
        found |= cells(kind.name, scores(made, [scenes[row] for row in rows]))
        each = made.reshape(len(scenes), EACH, *made.shape[1:])
        between += [rms(each[:, k], each[:, k + 1]) for k in range(EACH - 1)]
        scenes_apart.append(rms(real, np.roll(real, 1, axis=0)))
    found |= mean("between_variations", np.concatenate(between))
    found |= mean("between_scenes", np.concatenate(scenes_apart))
    return found | {"steps": VARIED.steps, "variations": EACH} | spent(bench, seed, "decoder", "clip")


def interpolation(bench: Bench, seed: int) -> dict[str, Any]:
    """Pictures between two true ones: whether CLIP sees them leave the first and approach the second."""
    model, clip = _decoder(bench, seed)
    scenes = [
        scene for kind in KINDS if not kind.held for scene in scenes_of(kind, bench.few(PATHS), REPORTED_ON)
    ]
    z, noise = _inverted(model, clip, true_pictures(scenes, SIZE))
    ends = torch.arange(len(scenes)).roll(-1)
    share = torch.linspace(0.0, 1.0, POINTS)
    paths = list[Tensor]()
    for first, last in zip(range(len(scenes)), ends.tolist(), strict=True):
        between, started = (
            slerp(
                some[first].expand(POINTS, *some.shape[1:]), some[last].expand(POINTS, *some.shape[1:]), share
            )
            for some in (z, noise)
        )
        made = sampled(model, POINTS, Given(embeddings=between), INVERSION, REPORTED_ON, noise=started)
        paths.append(image_embeddings(clip, torch.from_numpy(made)))
    seen = torch.stack(paths)  # (paths, POINTS, E)
    away = torch.einsum("ape,ae->ap", seen, z).numpy()
    near = torch.einsum("ape,ae->ap", seen, z[ends]).numpy()
    found = rate("monotone", monotone(-away) & monotone(near))
    found |= rate("steps", np.concatenate([np.diff(-away) >= 0, np.diff(near) >= 0]).reshape(-1))
    found |= {f"first_{k}": float(away[:, k].mean()) for k in range(POINTS)}
    found |= {f"second_{k}": float(near[:, k].mean()) for k in range(POINTS)}
    return found | {"steps_of_sampling": INVERSION.steps} | spent(bench, seed, "decoder", "clip")


def monotone(paths: np.ndarray) -> np.ndarray:
    """Which paths (N, P) never fall, (N,) bool."""
    return (np.diff(paths, axis=1) >= 0).all(1)


def _decoder(bench: Bench, seed: int) -> tuple[ImageModel, ClipModel]:
    clip = load_clip(bench.finished(with_seed("clip", seed)), "cpu")
    return load_image(bench.finished(with_seed("decoder", seed)), "cpu"), clip


def _inverted(model: ImageModel, clip: ClipModel, real: np.ndarray) -> tuple[Tensor, Tensor]:
    """The embeddings of pictures and the noise that they come from."""
    pixels = torch.from_numpy(real)
    z = image_embeddings(clip, pixels)
    return z, inverted(model, pixels, None, INVERSION, embeddings=z).cpu()


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> Rows:
    """All rows of these tables by name."""
    made: Rows = {}
    for seed in seeds:
        made[with_seed("clip", seed)] = partial(retrieval, bench, seed)
        for kind in PRIORS:
            made[with_seed(f"prior-{kind}", seed)] = partial(cosines, bench, seed, kind)
        for arm in ARMS:
            if arm != "none":
                made[with_seed(f"choice-decoder-{arm}", seed)] = partial(choice, arm, bench, seed)
            made[with_seed(f"decoder-{arm}", seed)] = partial(decoded, arm, bench, seed)
        made[with_seed("decoder-variations", seed)] = partial(variations, bench, seed)
        made[with_seed("decoder-interpolation", seed)] = partial(interpolation, bench, seed)
    return made
