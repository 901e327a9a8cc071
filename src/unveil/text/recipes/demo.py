"""`unveil demo text`: a passage that emerges from masks, and a line whose gap is filled."""

from __future__ import annotations

from shlex import quote

from unveil.errors import UnveilError
from unveil.runs.checkpoints import ZOO, zoo_names
from unveil.runs.config import read_recipe
from unveil.runs.machine import command_name
from unveil.runs.progress import Progress
from unveil.sampling.noise import generators
from unveil.text.canvas import Canvas, gap_canvas, prompt_canvas
from unveil.text.generation import until_end, write
from unveil.text.recipes.config import DemoText
from unveil.text.recipes.display import printable, shown
from unveil.text.recipes.load import load_text_model
from unveil.text.settings import TextSettings


def packaged() -> str:
    """The name of the packaged text model.

    Raises:
        UnveilError: there is none; the message says how to train one.
    """
    names = [name for name in zoo_names() if read_recipe(ZOO / name) == "text"]
    if not names:
        raise UnveilError(
            "no text model is packaged; train one and show it: unveil train text --preset tiny --data "
            "FILE.txt --out runs/text, then unveil demo text --checkpoint runs/text"
        )
    return names[0]


def run_demo_text(config: DemoText, progress: Progress) -> str:
    """Write both texts, streaming to the terminal; returns the text to print."""
    name = config.checkpoint or packaged()
    model = load_text_model(name, config.device)
    tokens = model.tokens
    prompt = tokens.encode(config.prompt)
    if len(prompt) >= model.shape.context:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens, which leaves nothing of the model's context of "
            f"{model.shape.context}"
        )
    length = min(config.length, model.shape.context - len(prompt))

    def written(canvas: Canvas, settings: TextSettings, every: int = 1) -> tuple[list[int], int]:
        with shown(model, True, every) as show:
            done = write(model, canvas, settings, generators(config.seed, 1), show)
        return done.ids[0].tolist(), done.calls

    settings = TextSettings(length, steps=length, order="first-hitting", temperature=0.8)
    canvas = prompt_canvas([prompt], length, tokens, model.device)
    row, calls = written(canvas, settings, every=max(1, length // 8))
    passage = tokens.decode([*prompt, *until_end(row[len(prompt) :], tokens, settings)])
    filled, gaps = "", "a model that does not see what follows fills no gaps"
    if not model.window:
        canvas = gap_canvas([config.infill], tokens, model.device)
        line, more = written(canvas, TextSettings(steps=32, may_end=False))
        filled = f"{printable(tokens.decode(line))}\n\n"
        gaps = f"and a gap filled in {more}; known text never changed"
    program, room = command_name(), min(200, max(1, model.shape.context - len(tokens.encode("JULIET:"))))
    return f"""{printable(passage)}

{filled}{name}: a passage of {length} tokens in {calls} calls of the network, {gaps}
next:
  {program} sample text --checkpoint {quote(name)} --prompt "JULIET:" --length {room} --watch
  {program} train text --data FILE.txt --out runs/mine"""
