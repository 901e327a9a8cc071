"""What the papers of GLIDE, unCLIP and Imagen claim, beside what the rows of `results/text-to-image.json` say.

A claim holds if the 95 % intervals do not meet, seed by seed.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from claims import NOT_RUN, Estimate, all_of, at_least, better_curve, estimate, larger, signed
from latent_tables import SEEDS
from result_tables import Rows, table

GUIDED = ("1", "2", "3", "6")
BY_CLIP = ("1", "3", "10", "30")
THRESHOLDED = ("1", "3", "7.5", "15")
LEVELS = ("0", "100", "200", "300", "400", "500")
SHIFTS = (
    ("one_seen_all", "one object"),
    ("two_seen_all", "two objects"),
    ("two_held_all", "two objects, held-out pairs"),
)
PRIORS = {"diffusion": "diffusion", "autoregressive": "autoregressive"}


class Claim(NamedTuple):
    """A claim of a paper, the sign that it gives, and per seed what is measured here and whether it holds."""

    what: str
    there: str
    here: Callable[[Rows, str], tuple[str, str]]


def claimed(rows: Rows, claims: Sequence[Claim], seeds: Sequence[str] = SEEDS) -> list[str]:
    """A line for each claim, with one seed after the other."""
    body: list[list[str]] = []
    for claim in claims:
        each = [claim.here(rows, seed) for seed in seeds]
        columns = [[part[k] for part in each] for k in range(2)]
        body.append(
            [
                claim.what,
                claim.there,
                *(part[0] if set(part) == {NOT_RUN} else "<br>".join(part) for part in columns),
            ]
        )
    return table(["claim of the paper", "there", "here", "holds"], body)


def pair(first: Estimate | None, second: Estimate | None, digits: int = 2, unit: float = 1.0) -> str:
    """Two numbers, one against the other."""
    if first is None or second is None:
        return NOT_RUN
    return f"{first.mean / unit:.{digits}f} against {second.mean / unit:.{digits}f}"


# GLIDE


def _curve(rows: Rows, names: Sequence[str], seed: str, name: str) -> list[tuple[float, Estimate]]:
    found: list[tuple[float, Estimate]] = []
    for row in (rows.get(one + seed) for one in names):
        right = estimate(row, name)
        if row is not None and right is not None and "kernel_distance" in row:
            found.append((row["kernel_distance"], right))
    return found


def _guidance(name: str) -> Callable[[Rows, str], tuple[str, str]]:
    def here(rows: Rows, seed: str) -> tuple[str, str]:
        free = _curve(rows, [f"glide-scale-{scale}" for scale in GUIDED], seed, name)
        guided = _curve(rows, [f"glide-clip-{scale}" for scale in BY_CLIP], seed, name)
        if len(free) < len(GUIDED) or len(guided) < len(BY_CLIP):
            return NOT_RUN, NOT_RUN
        found, verdict = better_curve(free, guided)
        return signed(found), verdict

    return here


def _untouched(rows: Rows, seed: str) -> tuple[str, str]:
    found = estimate(rows.get(f"glide-inpaint{seed}"), "known_changed")
    if found is None:
        return NOT_RUN, NOT_RUN
    return f"{100 * found.mean:.2g} %", "yes" if found.mean == 0.0 else "no"


def _enlarging(name: str, sign: int, digits: int, unit: float) -> Callable[[Rows, str], tuple[str, str]]:
    def here(rows: Rows, seed: str) -> tuple[str, str]:
        ours, simple = (estimate(rows.get(row), name) for row in (f"glide-upsampler{seed}", "glide-bicubic"))
        verdict = larger(ours, simple) if sign > 0 else larger(simple, ours)
        return pair(ours, simple, digits, unit), verdict

    return here


GLIDE_CLAIMS = (
    *(
        Claim(
            f"at equal distance, classifier-free guidance is right more often than guidance by CLIP: {what}",
            "> 0",
            _guidance(name),
        )
        for name, what in SHIFTS
    ),
    Claim("pixels that are known stay as they are", "0 %", _untouched),
    Claim(
        "the upsampler is nearer to true pictures than bicubic interpolation",
        "<",
        _enlarging("kernel_distance", -1, 3, 1e6),
    ),
    Claim("its PSNR is higher, too (not claimed there)", "-", _enlarging("psnr", 1, 1, 1.0)),
)


# unCLIP


def _retrieval(rows: Rows, seed: str) -> tuple[str, str]:
    row = rows.get(f"clip{seed}")
    name = "two_held_text_to_image"
    found = estimate(row, name)
    if row is None or found is None:
        return NOT_RUN, NOT_RUN
    by_chance = Estimate(*[row[f"{name}_chance"]] * 3)
    return pair(found, by_chance, 3), larger(found, by_chance)


def _nearer(kind: str) -> Callable[[Rows, str], tuple[str, str]]:
    def here(rows: Rows, seed: str) -> tuple[str, str]:
        row = rows.get(f"prior-diffusion{seed}")
        made, text = (estimate(row, f"{kind}_{name}") for name in ("prior", "text"))
        return pair(made, text, 3), larger(made, text)

    return here


def _priors(rows: Rows, seed: str) -> tuple[str, str]:
    first, second = (estimate(rows.get(f"prior-{name}{seed}"), "held_prior") for name in PRIORS)
    return pair(first, second, 3), larger(first, second)


def _arms(*arms: str, name: str = "two_seen_all") -> Callable[[Rows, str], tuple[str, str]]:
    def here(rows: Rows, seed: str) -> tuple[str, str]:
        each = [estimate(rows.get(f"decoder-{arm}{seed}"), name) for arm in arms]
        if any(one is None for one in each):
            return NOT_RUN, NOT_RUN
        verdict = all_of([larger(*two) for two in pairwise(each)])
        return ", ".join(f"{one.mean:.2f}" for one in each if one is not None), verdict

    return here


def _kept(rows: Rows, seed: str) -> tuple[str, str]:
    row = rows.get(f"decoder-variations{seed}")
    names = [f"one_seen_{name}" for name in ("colour", "shape", "size", "place")]
    each = [estimate(row, name) for name in names]
    if any(one is None for one in each):
        return NOT_RUN, NOT_RUN
    verdict = all_of([at_least(one, 0.9) for one in each])
    return f"least {min(one.mean for one in each if one is not None):.2f}", verdict


def _vary(rows: Rows, seed: str) -> tuple[str, str]:
    found = estimate(rows.get(f"decoder-variations{seed}"), "between_variations")
    said = NOT_RUN if found is None else f"{found.mean:.1f} levels"
    return said, larger(found, Estimate(0.0, 0.0, 0.0))


def _monotone(rows: Rows, seed: str) -> tuple[str, str]:
    found = estimate(rows.get(f"decoder-interpolation{seed}"), "monotone")
    return NOT_RUN if found is None else f"{found.mean:.2f} of the paths", at_least(found, 0.5)


UNCLIP_CLAIMS = (
    Claim("CLIP finds the pictures of two objects of held-out pairs more often than chance", ">", _retrieval),
    Claim("a prior's embedding is nearer to the picture's than the text's is", ">", _nearer("seen")),
    Claim("the same, held-out pairs", ">", _nearer("held")),
    Claim(
        "the diffusion prior is nearer than the autoregressive one after equal minutes, held-out pairs",
        ">",
        _priors,
    ),
    Claim(
        "two objects, all right: prior, then the text's embedding, then the caption alone",
        "falls",
        _arms("prior", "text", "caption"),
    ),
    Claim(
        "without the caption: prior, then the text's embedding, then nothing",
        "falls",
        _arms("prior-alone", "text-alone", "none"),
    ),
    Claim("variations keep colour, shape, size and place", "0.9 or more", _kept),
    Claim("and their pixels differ", "> 0", _vary),
    Claim(
        "on the way from one picture to another, each step leaves the first and nears the second, in most paths",
        "0.5 or more",
        _monotone,
    ),
)


# Imagen


def _degrades(rows: Rows, seed: str) -> tuple[str, str]:
    last = THRESHOLDED[-1]
    static, dynamic = (
        estimate(rows.get(f"threshold-{name}-{last}{seed}"), "kernel_distance")
        for name in ("static", "dynamic")
    )
    return pair(dynamic, static, 3, 1e6), larger(static, dynamic)


def _saturates(rows: Rows, seed: str) -> tuple[str, str]:
    last = THRESHOLDED[-1]
    static, dynamic = (
        estimate(rows.get(f"threshold-{name}-{last}{seed}"), "saturated") for name in ("static", "dynamic")
    )
    return pair(dynamic, static), larger(static, dynamic)


def _at_level(name: str, rows: Rows, seed: str, level: str = "") -> Estimate | None:
    """The distance at a noise level; "": at the chosen one."""
    if not level:
        level = str(rows.get(f"choice-cascade{seed}", {}).get("chosen_level", ""))
    return estimate(rows.get(f"cascade-{name}-{level}{seed}"), "kernel_distance") if level else None


def _augmented(rows: Rows, seed: str) -> tuple[str, str]:
    ours = _at_level("augmented", rows, seed)
    each = [_at_level("plain", rows, seed, level) for level in LEVELS]
    known = [one for one in each if one is not None]
    plain = min(known) if len(known) == len(LEVELS) else None
    return pair(ours, plain, 3, 1e6), larger(plain, ours)


def _noise_helps(rows: Rows, seed: str) -> tuple[str, str]:
    noisy, clean = (_at_level("augmented", rows, seed, level) for level in ("", "0"))
    if noisy is not None and noisy == clean:
        return "level 0 was chosen", "no"
    return pair(noisy, clean, 3, 1e6), larger(clean, noisy)


def _frozen(name: str) -> Callable[[Rows, str], tuple[str, str]]:
    def here(rows: Rows, seed: str) -> tuple[str, str]:
        frozen, learned = (
            estimate(rows.get(f"shapes-{encoder}{seed}"), name) for encoder in ("minilm", "words")
        )
        return pair(frozen, learned), larger(frozen, learned)

    return here


def _faster(rows: Rows, seed: str) -> tuple[str, str]:
    efficient, plain = (
        estimate(rows.get(f"{name}{seed}"), "images_per_core_second") for name in ("efficient", "plain")
    )
    return pair(efficient, plain, 1), larger(efficient, plain)


def _as_near(rows: Rows, seed: str) -> tuple[str, str]:
    efficient, plain = (
        estimate(rows.get(f"{name}{seed}"), "kernel_distance") for name in ("efficient", "plain")
    )
    verdict = larger(plain, efficient)
    return pair(efficient, plain, 3, 1e6), verdict


IMAGEN_CLAIMS = (
    Claim("at scale 15, dynamic thresholding is nearer to true pictures than clipping", "<", _degrades),
    Claim("and saturates fewer pixels", "<", _saturates),
    Claim(
        "the upsampler that saw noise, at the chosen level, is nearer than the other at any level",
        "<",
        _augmented,
    ),
    Claim("with it, noise at sampling helps: the chosen level against level 0", "<", _noise_helps),
    *(
        Claim(
            f"a frozen text encoder is right more often than one that learns with the images: {what}",
            ">",
            _frozen(name),
        )
        for name, what in SHIFTS[1:]
    ),
    Claim("the efficient U-Net makes more images a second", ">", _faster),
    Claim("and is nearer after equal minutes of training", "<", _as_near),
)
