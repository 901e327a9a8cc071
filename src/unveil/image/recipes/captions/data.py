"""`unveil data captions`: a tokenizer of the words of captions."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unveil.image.recipes.captions.config import DataCaptions
    from unveil.runs.progress import Progress

MARK = '{"unveil": "prompts"'  # beginning of the file


def make_words(config: DataCaptions, progress: Progress) -> dict[str, object]:
    """Write the tokenizer, and say how many words it knows and how many captions are cut.

    Raises:
        UnveilError: the images or their captions cannot be read, or another program's file is in the way.
    """
    from unveil.files.atomic import check_output, output
    from unveil.image.data.tokenizer import train_words
    from unveil.image.recipes.images import images_of, report
    from unveil.runs.flags import flat

    check_output(config.out, MARK)
    fields = flat(config) | {"asked_size": config.images.reading.size, "hold_out": 0.0}
    images, _ = images_of(fields)
    report(images, progress)
    assert images.captions is not None
    words = train_words(images.captions, config.text_length, config.vocabulary)
    lengths = [len(words.ids(caption)) for caption in images.captions]
    cut = sum(length > words.room for length in lengths)
    with output(config.out, MARK) as partial:
        partial.write_text(words.written(), encoding="utf-8")
    some = f"; {cut:,} captions are longer than {words.room} words and will be cut" if cut else ""
    train = f"unveil train image --data {quote(config.images.data)} --captions {quote(config.captions)}"
    return {
        "metrics": {"words": words.size, "captions": len(lengths), "cut": cut, "longest": max(lengths)},
        "files": str(config.out),
        "summary": f"{config.out}: {words.size:,} words of {len(lengths):,} captions{some}\n"
        f"next: {train} --tokenizer {quote(str(config.out))}",
    }
