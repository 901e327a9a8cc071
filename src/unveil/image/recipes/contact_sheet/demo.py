"""`unveil demo text-to-image`: pictures of several prompts on one page."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from time import perf_counter

from unveil.image.recipes.contact_sheet.config import PACKAGED, SEEN, UNSEEN, DemoTextToImage
from unveil.image.recipes.contact_sheet.sentences import EACH, sentences, verdicts

NAME = "text-to-image.png"
COLUMNS = 6
SIDE = 128  # least side of a picture on the page


def run_contact_sheet(config: DemoTextToImage, progress: Callable[..., None]) -> str:
    """Write the page; returns what to print.

    Raises:
        UnveilError: no such model, one without captions, or a file in the way.
    """
    from unveil.errors import UnveilError
    from unveil.files.pictures import write_picture
    from unveil.image.data.shapes import caption_of_scene
    from unveil.image.evaluation.pages import captioned
    from unveil.image.generation import Given, generate
    from unveil.image.recipes.load import load_image, open_image
    from unveil.image.recipes.reproduce import check_folder
    from unveil.image.settings import ImageSettings
    from unveil.runs.device import enough_memory
    from unveil.runs.machine import command_name

    check_folder(config.out, (NAME,))
    began, program = perf_counter(), command_name()
    place, shapes = config.checkpoint or PACKAGED[config.model], config.model == "shapes"
    opened = open_image(place)
    if not opened.config.get("captions"):
        raise UnveilError(
            f"{place} was trained without captions and reads no prompts; show it with: {program} "
            f"demo image --checkpoint {quote(place)}"
        )
    model = load_image(opened.folder, config.device, opened.config)
    own = not config.prompts and (shapes or place == PACKAGED["emoji"])
    scenes = sentences() if shapes else []
    prompts = tuple(map(caption_of_scene, scenes)) or config.prompts or (*SEEN, *UNSEEN)
    unseen = prompts[EACH:] if shapes else UNSEEN
    done = 0

    def report(*_: object) -> None:
        nonlocal done
        done += 1
        progress("images", done, config.steps, {})

    with enough_memory():
        settings = ImageSettings(steps=config.steps, scale=config.scale)
        given = Given(prompts=prompts)
        made = generate(model, None, len(prompts), settings, config.seed, len(prompts), report, given=given)
    shown = [f"{prompt} *" if own and prompt in unseen else prompt for prompt in prompts]
    held = "\n* the training pictures show no such combination" if own else ""
    if shapes:
        right, said = verdicts(made.pixels.numpy(), scenes)
        shown = [text if good else f"{text} - wrong" for text, good in zip(shown, right, strict=True)]
        held += f"\n{said}"
    columns = COLUMNS if own else 0
    file = config.out / NAME
    write_picture(file, captioned(made.pixels.numpy(), shown, columns, least=SIDE))
    name, first = quote(place), quote(prompts[-1])
    seconds = perf_counter() - began
    return f"""
{file}: {len(prompts)} prompts{held}
({place}, {made.calls} steps of DPM-Solver++, guidance {config.scale:g}, {seconds:.0f} s)

next:
  {program} sample image --checkpoint {name} --prompt {first} -n 16 --out samples
  {program} train image --data FOLDER --captions auto --size 32 --fit crop --out runs/mine"""
