"""`/api/trainings`: start, watch, stop and resume `unveil train`, and use what was learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.responses import FileResponse

from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.trainings.data import UPLOADS, usual
from unveil.serve.trainings.recipes import Recipe, Setting, Value
from unveil.serve.trainings.runs import LARGEST_MAP
from unveil.serve.trainings.state import samples_of
from unveil.serve.uploads import decoded

LONGEST = 1000  # characters of a text
KINDS: dict[str, Any] = {
    "whole": Annotated[int, Field(ge=-(2**63), lt=2**63)],
    "number": Annotated[float, Field(allow_inf_nan=False)],
    "switch": bool,
}


@dataclass(frozen=True)
class More:
    """How far to go on."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    steps: Annotated[int | None, Field(ge=1, lt=2**53, description="absent: as before")] = None


def schema_of(recipe: Recipe) -> type[BaseModel]:
    """The request that starts a training: settings of `unveil train RECIPE`; absent ones are the preset's."""
    fields: dict[str, Any] = {
        "name": (str, Field("", max_length=40, description="name of the run; empty: recipe, preset, number"))
    }
    fields["preset"] = (Literal[recipe.presets], Field("default", description="set of defaults"))
    for setting in recipe.settings:
        fields[setting.name] = (_type(setting), Field(None, description=setting.help))
    if recipe.name in UPLOADS:
        told = f"file for `data` as base64: {UPLOADS[recipe.name]}"
        fields["upload"] = (str, Field("", description=told))
    if any(setting.kind == "map" for setting in recipe.settings):
        told = "map of a maze of one's own, a row per line: # wall, O free"
        fields["map"] = (str, Field("", max_length=LARGEST_MAP, description=told))
    title = f"Train{recipe.name.title()}Job"
    return create_model(title, __config__=ConfigDict(extra="forbid", title=title), **fields)


def _type(setting: Setting) -> Any:  # an annotation, made at run time
    texts: Any = Annotated[str, Field(max_length=LONGEST)]
    named: Any = Literal[setting.choices]
    return (named if setting.kind in ("choice", "map") else KINDS.get(setting.kind, texts)) | None


def routes(studio: Studio) -> APIRouter:
    """The routes of trainings below /api."""
    router = APIRouter(prefix="/api", tags=["unveil"])
    trainings = studio.trainings

    @router.get("/recipes", summary="What can be trained, with the settings of the command line")
    def recipes() -> list[dict[str, object]]:
        return [_shown(recipe, studio) for recipe in trainings.recipes.values()]

    @router.get("/trainings", summary="The trainings, the newest first")
    def all_trainings() -> dict[str, object]:
        return {
            "folder": str(trainings.folder),
            "most": studio.settings.limits.trainings,
            "trainings": [trainings.summary(name) for name in trainings.names()],
        }

    @router.get("/trainings/{name}", summary="A training: its curve, samples and state")
    def training(name: str) -> dict[str, object]:
        return trainings.describe(name)

    @router.post("/trainings/{name}/stop", summary="Stop a training, which saves first")
    def stop(name: str) -> dict[str, object]:
        trainings.stop(name)
        return trainings.describe(name)

    @router.post("/trainings/{name}/resume", status_code=202, summary="Go on with a training")
    def resume(name: str, asked: More) -> dict[str, object]:
        trainings.resume(name, asked.steps)
        return trainings.describe(name)

    @router.post("/trainings/{name}/use", summary="Serve the newest checkpoint of a training as a model")
    def use(name: str) -> dict[str, object]:
        model = trainings.use(name)
        return {"model": model.id, "kind": model.kind}

    @router.get("/trainings/{name}/samples/{step}", summary="Samples on the way: a PNG or a text")
    def samples(name: str, step: int) -> FileResponse:
        found = next((it for it in samples_of(trainings.find(name)) if it.step == step), None)
        if found is None:
            raise Refused(404, "there are no such samples")
        kind = "image/png" if found.file.suffix == ".png" else "text/plain; charset=utf-8"
        return FileResponse(found.file, media_type=kind)

    for recipe in trainings.recipes.values():
        title = f"Train {recipe.about}"
        router.post(f"/trainings/{recipe.name}", status_code=202, summary=title)(_start(recipe, studio))
    del recipes, all_trainings, training, stop, resume, use, samples
    return router


def _start(recipe: Recipe, studio: Studio) -> Callable[..., dict[str, object]]:
    schema: Any = schema_of(recipe)

    def start(asked: Any) -> dict[str, object]:
        given = asked.model_dump(exclude_none=True)
        name, preset = given.pop("name"), given.pop("preset")
        upload, drawn = given.pop("upload", ""), given.pop("map", "")
        values: dict[str, Value] = given
        for setting, value in values.items():
            if isinstance(value, str) and not value.isprintable():
                raise Refused(400, f"`{setting}` holds characters that cannot be printed; take them out")
        if drawn and "maze" in values:
            raise Refused(400, "give `maze` or `map`, not both")
        data = decoded(upload) if upload else b""
        return studio.trainings.describe(studio.trainings.start(recipe, preset, values, name, data, drawn))

    start.__name__ = f"train_{recipe.name}"
    start.__annotations__["asked"] = Annotated[schema, Body()]
    return start


def _shown(recipe: Recipe, studio: Studio) -> dict[str, object]:
    """A recipe as JSON, with the data and models that its settings may name."""
    entries = studio.trainings.entries.values()
    data = [entry.id for entry in entries if recipe.name in entry.recipes]

    def choices(setting: Setting) -> list[str]:
        if setting.kind == "data":
            return data
        if setting.kind == "model":
            models = studio.models.of_kind(setting.choices[0])  # type: ignore[arg-type]
            return [it.id for it in models if it.kind == "text" or it.prompts]
        return list(setting.choices)

    return {
        "name": recipe.name,
        "about": recipe.about,
        "presets": list(recipe.presets),
        "usual_data": usual(recipe.name),
        "upload": UPLOADS.get(recipe.name, ""),
        "settings": [setting._asdict() | {"choices": choices(setting)} for setting in recipe.settings],
    }
