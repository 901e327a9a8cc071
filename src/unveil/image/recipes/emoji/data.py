"""`unveil data emoji`: the drawings to train on, and the held-out ones, as three .npz files."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.image.data.emoji import in_groups, split_emoji
from unveil.image.data.reading import Reading
from unveil.image.data.records import check_recorded, write_recorded
from unveil.image.data.source import read_images

if TYPE_CHECKING:
    from unveil.image.recipes.emoji.config import DataEmoji
    from unveil.runs.progress import Progress


def split_drawings(config: DataEmoji, progress: Progress) -> JsonObject:
    """Read the drawings, split them and write the parts.

    Raises:
        UnveilError: no drawings with names, or a file of the user in the way.
    """
    name = config.out.stem.removesuffix("-train")
    files = {
        "train": config.out,
        "pairs": config.out.with_name(f"{name}-pairs.npz"),
        "unseen": config.out.with_name(f"{name}-concepts.npz"),
    }
    for file in files.values():
        check_recorded(file)
    images = read_images(config.data, Reading(), config.styles)
    masks = split_emoji(images, config.concepts, config.pairs, config.seed)._asdict()
    if images.drawings is None:
        raise UnveilError(f"{config.data}: no drawings with names")
    kept = in_groups(images.drawings, config.groups)
    counts: dict[str, int] = {}
    for step, (part, file) in enumerate(files.items(), 1):
        chosen = images.chosen((masks[part] & kept).nonzero()[0])
        assert chosen.drawings is not None
        records = [drawing._asdict() for drawing in chosen.drawings]
        write_recorded(file, chosen.pixels.transpose(0, 2, 3, 1), records)
        counts[part] = len(chosen)
        progress(f"writing {file}", step, len(files), {})
    return {
        "path": str(config.out),
        "protocol": "emoji without flags; held out: pairs of concept and style, and concepts whose words "
        "occur in others",
        "metrics": counts,
        "summary": f"{config.out}: {counts['train']:,} drawings to train on\n"
        f"{files['pairs']}: {counts['pairs']:,} drawings of known concepts in known styles, which do not "
        "occur together\n"
        f"{files['unseen']}: {counts['unseen']:,} drawings of concepts that do not occur, in known words\n"
        f"next: unveil train image --data {quote(str(config.out))} --captions auto",
    }
