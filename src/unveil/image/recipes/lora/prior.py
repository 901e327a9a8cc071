"""Pictures of a class, sampled from the base once and kept in the run folder (prior preservation)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.image.data.images import ImageSet
    from unveil.image.recipes.tuning import Base
    from unveil.runs.progress import Progress

FOLDER, STEPS = "prior", 20
AT_ONCE = 2**18  # pixels that are sampled at a time


def prior_pictures(
    base: Base, prompt: str, count: int, size: int, seed: int, run: Path, progress: Progress
) -> ImageSet:
    """The pictures of a prompt that the base makes, each with its caption.

    They are prior/0000.png and so on in the run folder; those that are there and were made in the same way
    are not made again. Picture i has the noise of seed + i, so that none depends on the others.

    Args:
        size: side in pixels.
    Raises:
        UnveilError: a file of another program is in the way.
    """
    import numpy as np

    from unveil.files.pictures import read_parameters, write_picture
    from unveil.image.data.images import ImageSet
    from unveil.image.data.picture_files import Unreadable, read_image_file
    from unveil.image.data.reading import Reading
    from unveil.image.generation import Given, generate
    from unveil.image.settings import ImageSettings
    from unveil.sampling.noise import generators

    model, folder = base.model, run / FOLDER
    settings = ImageSettings(steps=min(STEPS, model.shape.diffusion_steps), scale=base.scale)
    made_of = {"prompt": prompt, "size": size, "base": base.described["base_digest"]}
    files = [folder / f"{k:04d}.png" for k in range(count)]
    texts = [json.dumps(made_of | {"seed": seed + k}) for k in range(count)]

    def there(k: int) -> bool:
        try:
            return files[k].is_file() and read_parameters(files[k]) == texts[k]
        except UnveilError:
            return False

    lacking = [k for k in range(count) if not there(k)]
    batch = max(1, AT_ONCE // size**2)
    for at in range(0, len(lacking), batch):
        rows = lacking[at : at + batch]
        own = [generators(seed + k, 1)[0] for k in rows]
        given = Given(prompts=[prompt] * len(rows))
        made = generate(model, None, len(rows), settings, own, len(rows), given=given, size=(size, size))
        folder.mkdir(parents=True, exist_ok=True)
        for k, pixels in zip(rows, made.pixels.numpy(), strict=True):
            write_picture(files[k], pixels.transpose(1, 2, 0), texts[k])
        progress(f"pictures of {prompt!r}", at + len(rows), len(lacking), {})
    try:
        pixels = np.stack([read_image_file(file, Reading()).pixels for file in files])
    except Unreadable as error:
        raise UnveilError(f"{folder}: a damaged picture ({error}); remove the folder") from error
    return ImageSet(pixels, captions=(prompt,) * count)
