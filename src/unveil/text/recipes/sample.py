"""`unveil sample text`: text after a prompt, or in the gaps of a pattern."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from unveil.errors import UnveilError
from unveil.runs.progress import Progress
from unveil.sampling.noise import generators
from unveil.text.canvas import gap_canvas, prompt_canvas
from unveil.text.continuation import write_on
from unveil.text.generation import until_end, write
from unveil.text.recipes.config import SampleText
from unveil.text.recipes.display import printable, shown
from unveil.text.recipes.load import load_with

PART = 32  # tokens per part of a text without a length, by default


def sample_text(config: SampleText, progress: Progress) -> dict[str, object]:
    """Write text, and describe the result."""
    model = load_with(config.model, config.job)
    tokens, infill, count = model.tokens, config.infill is not None, config.count
    if infill and model.window:
        raise UnveilError(
            "infilling needs a masked model; this one, causal or of blocks, does not see what follows a gap: "
            "give `prompt`"
        )
    prompt = tokens.encode(config.prompt)
    endless = config.writing.length == 0 and not infill
    length = config.writing.tokens(model.shape.context - len(prompt)) or config.writing.block or PART
    settings = replace(config.writing, length=length, may_end=config.writing.may_end and not infill)
    if config.infill is None:
        canvas = prompt_canvas([prompt] * count, length, tokens, model.device)
    else:
        canvas = gap_canvas([config.infill] * count, tokens, model.device)
    noise = generators(config.job.seed, count)
    began = perf_counter()
    with shown(model, config.watch) as show:
        written = (
            write_on(model, [prompt] * count, settings, noise, show)
            if endless
            else write(model, canvas, settings, noise, show)
        )
    seconds = perf_counter() - began
    known = int((canvas.ids != tokens.mask_id).sum())
    new = int((written.ids != tokens.mask_id).sum()) - known  # tokens after an end stay masked
    first = 0 if infill else len(prompt)
    texts = [
        tokens.decode(row if infill else row[:first] + until_end(row[first:], tokens, settings))
        for row in written.ids.tolist()
    ]
    speed = f"{new} tokens in {written.calls} calls, {new / seconds:,.0f} tokens/s"
    return {
        "recipe": "text",
        "checkpoint": config.model.checkpoint,
        "protocol": f"{'infill' if infill else 'prompt'}, order {settings.order}",
        "metrics": {"tokens_per_second": new / seconds, "nfe": written.calls, "n": count},
        "texts": texts,
        "summary": "\n---\n".join(map(printable, texts)) + f"\n\n{speed}",
    }
