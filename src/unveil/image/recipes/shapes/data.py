"""`unveil data shapes`: captioned pictures of coloured shapes, as an .npz file and its records."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from unveil.files.atomic import check_output, output
from unveil.image.data.records import check_recorded, write_recorded
from unveil.image.data.shapes import PAIRS, RULE, drawn, held_out, random_scenes, record_of

if TYPE_CHECKING:
    from unveil.image.recipes.shapes.config import DataShapes
    from unveil.runs.progress import Progress

MARK = '{"caption": "a '  # beginning of a .jsonl file


def make_shapes(config: DataShapes, progress: Progress) -> dict[str, object]:
    """Draw the pictures, and write them, their records and the held-out captions."""
    out = config.out
    captions = out.with_name(f"{out.stem}-held-out.jsonl")
    check_recorded(out)
    check_output(captions, MARK)
    scenes = random_scenes(config.n, config.seed, config.objects, varied=config.varied)
    pixels = np.empty((config.n, config.size, config.size, 3), np.uint8)
    for k, scene in enumerate(scenes):
        pixels[k] = drawn(scene, config.size).transpose(1, 2, 0)
        if (k + 1) % 1000 == 0 or k + 1 == config.n:
            progress("drawing shapes", k + 1, config.n, {})
    some = config.captions, config.seed, config.objects
    held = random_scenes(*some, held=True, varied=config.varied)
    described = [record_of(scene, k) for k, scene in enumerate(scenes)]
    with output(captions, MARK) as partial:
        lines = [json.dumps(record_of(scene, k)) for k, scene in enumerate(held)]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_recorded(out, pixels, described)
    apart = [f"{colour} {shape}" for colour, shape in PAIRS if held_out(colour, shape)]
    different = len({str(record["caption"]) for record in described})
    return {
        "path": str(out),
        "protocol": f"captioned shapes: {RULE}",
        "metrics": {
            "n": config.n,
            "captions": different,
            "held_out_captions": len({str(record_of(scene, 0)["caption"]) for scene in held}),
            **{f"pictures_of_{k}": sum(len(scene.objects) == k for scene in scenes) for k in (1, 2, 3)},
        },
        "summary": f"{out}: {config.n:,} pictures of {config.size} x {config.size}, with {different:,} "
        f"different captions, and without {', '.join(apart)}\n"
        f"{captions}: {len(held):,} captions of these alone\n"
        f"next: unveil train image --data {quote(str(out))} --captions auto",
    }
