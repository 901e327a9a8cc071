"""The settings in an uploaded PNG, as fields of a job."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from unveil.files.json_objects import JsonObject
from unveil.image.prompts.infotext import Infotext, parse_infotext
from unveil.image.sampler_names import solver_and_grid
from unveil.serve.api.image_request import ImageJob
from unveil.serve.api.plot_request import PlotJob
from unveil.serve.images import typed_place
from unveil.serve.models import Models
from unveil.serve.plots import CHUNK
from unveil.serve.uploads import Upload

if TYPE_CHECKING:
    from unveil.image.high_resolution import Upscaler

OWN, INFOTEXT = "unveil", "parameters"
MISSING = "the model of this image is not served here"
NEEDED = "the image was made from uploads, which are needed again"


def fields_of(upload: Upload, models: Models) -> dict[str, object]:
    """The fields of the job that made a PNG, and its texts.

    Returns:
        `fields`: of `ImageJob`, all that the PNG says; those of unveil make the same images again, bit for
        bit on the same machine, with the same uploads. `plot`: the axes of a grid. `infotext`: as other
        programs write it. `note`: what is missing.
    """
    if (plot := _plot(upload.texts.get(CHUNK, ""))) is not None:
        image = plot.image
        found = {name: value for name, value in asdict(image).items() if value not in (None, (), "")}
        found["checkpoint"] = typed_place(models, image.checkpoint)
        axes = {name: asdict(one) for name in "xyz" if (one := getattr(plot, name)) is not None}
        note = NEEDED if image.task else "" if found["checkpoint"] else MISSING
        return {"fields": found, "plot": axes, "infotext": "", "note": note}
    text = upload.texts.get(INFOTEXT, "")
    own = _own(upload.texts.get(OWN, ""))
    found = _from_own(own, models) if own is not None else _from_infotext(parse_infotext(text), models)
    notes: list[str] = []
    if own is None and not text:
        notes.append("no settings in this image; programs that edit images drop them")
    elif not found.get("checkpoint"):
        notes.append(MISSING)
    if own is not None and own.get("given"):
        notes.append(NEEDED)
    return {"fields": found, "plot": {}, "infotext": text, "note": "; ".join(notes)}


def _plot(text: str) -> PlotJob | None:
    """The request that the PNG of a grid holds; None: it holds none."""
    try:
        return TypeAdapter(PlotJob).validate_json(text) if text else None
    except ValueError:
        return None


def _own(text: str) -> JsonObject | None:
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _from_own(own: JsonObject, models: Models) -> dict[str, object]:
    """Fields that differ from those of a request without them."""
    names = [it.name for it in fields(ImageJob) if it.name not in ("given", "mask", "checkpoint", "fit")]
    found = {name: own[name] for name in names if name in own and own[name] not in ((), [], "", None)}
    found["checkpoint"] = typed_place(models, str(own.get("checkpoint", "")))
    if found.get("negative") == -1:
        del found["negative"]
    if found.get("hires", 1.0) == 1.0:
        found = {name: value for name, value in found.items() if not name.startswith("hires")}
    if not found.get("variation"):
        found = {name: value for name, value in found.items() if not name.startswith("variation")}
    if not own.get("task"):
        found = {name: value for name, value in found.items() if name not in ("strength", "jumps")}
    return found


def _from_infotext(said: Infotext, models: Models) -> dict[str, object]:
    """Fields that an infotext names; settings that unveil does not know are left out."""
    settings = said.settings
    found: dict[str, object] = {"n": 1}
    if said.prompt:
        found["prompt"] = [said.prompt]
    if said.negative:
        found["negative"] = said.negative
    for name, field, kind in (
        ("Steps", "steps", int),
        ("Seed", "seed", int),
        ("CFG scale", "scale", float),
        ("Hires upscale", "hires", float),
        ("Hires steps", "hires_steps", int),
        ("Variation seed", "variation_seed", int),
        ("Variation seed strength", "variation", float),
    ):
        try:
            if name in settings:
                found[field] = kind(settings[name])
        except ValueError:
            continue
    if "hires" in found and (upscaler := _upscaler(settings.get("Hires upscaler", ""))) is not None:
        found["hires_upscaler"] = upscaler
    try:
        if "Denoising strength" in settings:
            found["hires_strength" if "hires" in found else "strength"] = float(
                settings["Denoising strength"]
            )
        sampler = solver_and_grid(settings.get("Sampler", ""), settings.get("Schedule type", "Automatic"))
        found["solver"], found["grid"] = sampler
        found["size"] = [int(settings["Size-1"]), int(settings["Size-2"])]
    except (ValueError, LookupError):
        pass
    found["checkpoint"] = typed_place(models, settings.get("Model", ""))
    return found


def _upscaler(name: str) -> Upscaler | None:
    from unveil.image.high_resolution import UPSCALERS

    return next((key for key, known in UPSCALERS.items() if known == name), None)
