"""Write the tables of GLIDE, unCLIP, Imagen and all systems in docs/applications/text-to-image.md, from
`benchmarks/results/text-to-image.json` and, for frozen encoders, `latent.json`.

Each has a mark of its own on the page: glide, glide-parts, unclip, unclip-decoder, imagen-threshold,
imagen-cascade, imagen-parts, systems, and a mark ending in -claims for what the papers claim.
"""

from collections.abc import Callable, Iterator, Sequence

import latent_tables
from latent_tables import SEEDS, distance, number, read, share
from result_tables import Rows, cell, replaced, table
from text_to_image_claims import (
    BY_CLIP,
    GLIDE_CLAIMS,
    GUIDED,
    IMAGEN_CLAIMS,
    LEVELS,
    PRIORS,
    THRESHOLDED,
    UNCLIP_CLAIMS,
    claimed,
)

CELLS = {
    "one_seen_all": "one, all",
    "one_held_all": "one, all, held-out pair",
    "two_seen_binding": "two, binding",
    "two_held_binding": "binding, held-out pairs",
    "two_seen_all": "two, all",
    "two_held_all": "all, held-out pairs",
}
DISTANCE = "kernel distance, millions"
ARMS = {
    "prior": "caption, embedding of the diffusion prior",
    "prior-autoregressive": "caption, embedding of the autoregressive prior",
    "text": "caption, the text's own embedding",
    "caption": "caption alone",
    "prior-alone": "embedding of the diffusion prior alone",
    "text-alone": "the text's own embedding alone",
    "none": "nothing",
}
UPSAMPLERS = {"augmented": "with noise in training", "plain": "without"}


def _cells(rows: Rows, row: str, seeds: Sequence[str] = SEEDS) -> Iterator[str]:
    """Attributes and distance of a row."""
    yield from (share(rows, row, name, seeds) for name in CELLS)
    yield distance(rows, row, "kernel_distance", seeds)


# GLIDE


def glide(rows: Rows) -> list[str]:
    """Guidance by scale."""
    body = [["classifier-free", scale, *_cells(rows, f"glide-scale-{scale}")] for scale in GUIDED]
    body += [["noised CLIP", scale, *_cells(rows, f"glide-clip-{scale}")] for scale in BY_CLIP]
    return table(["guidance", "scale", *CELLS.values(), DISTANCE], body)


def glide_parts(rows: Rows) -> list[str]:
    """Filling in, then enlarging."""
    inside = {"inside_colour": "colour in the hole", "inside_shape": "shape", "inside_all": "both"}
    inside |= {"whole_all": "whole picture, all"}
    body = [
        [said, *(share(rows, "glide-inpaint", f"{kind}_{name}") for name in inside)]
        for kind, said in (("two_seen", "two objects"), ("two_held", "two objects, held-out pairs"))
    ]
    body.append(["*known pixels that changed*", share(rows, "glide-inpaint", "known_changed"), "-", "-", "-"])
    lines = table(["one of two objects filled in", *inside.values()], body)
    body = [
        [
            said,
            cell(rows, row, "psnr", 1, seeds),
            share(rows, row, "seen_all", seeds),
            distance(rows, row, "kernel_distance", seeds),
        ]
        for row, said, seeds in (
            ("glide-upsampler", "upsampler", SEEDS),
            ("glide-bicubic", "*bicubic*", ("",)),
        )
    ]
    return [*lines, *table(["16 to 64 pixels", "PSNR, dB", "all attributes", DISTANCE], body)]


# unCLIP


def unclip(rows: Rows) -> list[str]:
    """Retrieval, then cosines of priors."""
    kinds = {
        "one_seen": "one object",
        "one_held": "one object, held-out pair",
        "two_seen": "two objects",
        "two_held": "two objects, held-out pairs",
    }
    body: list[list[str]] = []
    for kind, said in kinds.items():
        line = [said]
        for way in ("text_to_image", "image_to_text"):
            line += [
                share(rows, "clip", f"{kind}_{way}"),
                number(rows, "clip", f"{kind}_{way}_chance", ".3f"),
            ]
        body.append(line)
    heads = ["R@1 of 200", "picture of a text", "chance", "text of a picture", "chance"]
    lines = table(heads, body)
    body = []
    for prior, said in PRIORS.items():
        row = f"prior-{prior}"
        minutes = number(rows, row, "training_core_minutes", ".1f")
        body.append(
            [f"{said} prior", minutes, *(cell(rows, row, f"{kind}_prior", 3) for kind in ("seen", "held"))]
        )
    for name, said in (("text", "*the text's own*"), ("average", "*mean of other pictures*")):
        body.append(
            [said, "-", *(cell(rows, "prior-diffusion", f"{kind}_{name}", 3) for kind in ("seen", "held"))]
        )
    heads = ["cosine with the picture's embedding", "training, minutes", "seen pairs", "held-out pairs"]
    return [*lines, *table(heads, body)]


def unclip_decoder(rows: Rows) -> list[str]:
    """What the decoder is given, then variations and interpolation."""
    body: list[list[str]] = []
    for arm, said in ARMS.items():
        scale = "1" if arm == "none" else cell(rows, f"choice-decoder-{arm}", "chosen_scale", 0)
        body.append([said, scale, *_cells(rows, f"decoder-{arm}")])
    lines = table(["the decoder is given", "scale", *CELLS.values(), DISTANCE], body)
    names = {
        "one_seen_colour": "colour",
        "one_seen_shape": "shape",
        "one_seen_size": "size",
        "one_seen_place": "place",
    }
    names |= {"two_seen_binding": "two objects: binding", "two_seen_relation": "relation"}
    body = [
        [
            *(share(rows, "decoder-variations", name) for name in names),
            *(cell(rows, "decoder-variations", f"between_{what}", 1) for what in ("variations", "scenes")),
        ]
    ]
    heads = [
        "kept by variations: colour",
        *[*names.values()][1:],
        "between variations, levels",
        "between pictures",
    ]
    lines += table(heads, body)
    body = [
        [said, *(number(rows, "decoder-interpolation", f"{end}_{k}", ".2f") for k in range(7))]
        for end, said in (("first", "cosine with the first picture"), ("second", "with the second"))
    ]
    return [*lines, *table(["interpolation, seed 0", *(f"{k}/6" for k in range(7))], body)]


# Imagen


def imagen_threshold(rows: Rows) -> list[str]:
    """Saturated pixels and distance by scale."""
    body: list[list[str]] = []
    for name, said in (("static", "clipped"), ("dynamic", "dynamic, 99.5 %")):
        for scale in THRESHOLDED:
            row = f"threshold-{name}-{scale}"
            body.append(
                [
                    said,
                    scale,
                    share(rows, row, "saturated"),
                    *(share(rows, row, cell) for cell in ("one_seen_all", "two_seen_all")),
                    distance(rows, row, "kernel_distance"),
                ]
            )
    return table(
        ["threshold", "scale", "saturated pixels of objects", "one, all", "two, all", DISTANCE], body
    )


def imagen_cascade(rows: Rows) -> list[str]:
    """Noise level at sampling, by upsampler."""
    body: list[list[str]] = []
    for name, said in UPSAMPLERS.items():
        body += [[said, level, *_cells(rows, f"cascade-{name}-{level}")] for level in LEVELS]
        body.append([f"*{said}, true small pictures*", "0", *_cells(rows, f"enlarged-{name}")])
    return table(["upsampler", "noise level", *CELLS.values(), DISTANCE], body)


def imagen_parts(rows: Rows) -> list[str]:
    """The efficient U-Net beside the plain one."""
    body = [
        [
            said,
            number(rows, name, "parameters", ".2f", unit=1e6),
            number(rows, name, "training_steps", ",.0f"),
            number(rows, name, "images_per_core_second", ".2f"),
            cell(rows, f"choice-{name}", "chosen_scale", 0),
            *_cells(rows, name),
        ]
        for name, said in (("plain", "U-Net"), ("efficient", "efficient U-Net"))
    ]
    heads = ["", "parameters, M", "steps of training", "images/s", "scale", *CELLS.values(), DISTANCE]
    return table(heads, body)


# all


def systems(rows: Rows) -> list[str]:
    """GLIDE, unCLIP, Imagen's cascade and latent diffusion on the same captions."""
    each = {
        "GLIDE": ("choice-glide", "glide-scale-{chosen_scale:g}"),
        "unCLIP": ("choice-decoder-prior", "decoder-prior"),
        "Imagen, cascade": ("choice-cascade", "cascade-augmented-{chosen_level}"),
        "latent diffusion": ("choice-latent", "latent"),
        "U-Net and learned words alone": ("choice-plain", "plain"),
    }
    body: list[list[str]] = []
    for said, (choice, row) in each.items():
        named: Rows = {}
        for seed in SEEDS:
            chosen, name = rows.get(choice + seed), ""
            if chosen is not None or "{" not in row:
                name = row.format(**(chosen or {}))
            found = rows.get(name + seed) if name else None
            if found is not None:
                named[f"it{seed}"] = found
        body.append(
            [
                said,
                number(named, "it", "side", ".0f"),
                *(number(named, "it", f"{which}_core_minutes", ".0f") for which in ("training", "all")),
                cell(rows, choice, "chosen_scale", 0),
                number(named, "it", "images_per_core_second", ".2f"),
                *_cells(named, "it"),
            ]
        )
    for row, side, said, seeds in (
        ("real-32", "32", "*true pictures*", ("",)),
        ("real-64", "64", "*true pictures*", ("",)),
        ("reconstructed", "64", "*true pictures through the autoencoder*", SEEDS),
    ):
        body.append([said, side, "-", "-", "-", "-", *_cells(rows, row, seeds)])
    heads = ["", "judged at, pixels", "training, minutes", "with all parts", "scale", "images/s"]
    return table([*heads, *CELLS.values(), DISTANCE], body)


PARTS: dict[str, Callable[[Rows], list[str]]] = {
    "glide": glide,
    "glide-parts": glide_parts,
    "glide-claims": lambda rows: claimed(rows, GLIDE_CLAIMS),
    "unclip": unclip,
    "unclip-decoder": unclip_decoder,
    "unclip-claims": lambda rows: claimed(rows, UNCLIP_CLAIMS),
    "imagen-threshold": imagen_threshold,
    "imagen-cascade": imagen_cascade,
    "imagen-parts": imagen_parts,
    "imagen-claims": lambda rows: claimed(rows, IMAGEN_CLAIMS),
    "systems": systems,
}


def main() -> None:
    page = latent_tables.PAGE
    if not page.is_file():
        return
    text = page.read_text(encoding="utf-8")
    rows = read("latent") | read("text-to-image")
    for mark, part in PARTS.items():
        if f"<!-- {mark} -->" in text:
            text = replaced(text, mark, "\n".join(part(rows)).rstrip())
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
