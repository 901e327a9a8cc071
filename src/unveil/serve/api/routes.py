"""The server's own API: `/api`, with the names of the command line."""

import json
from collections.abc import AsyncIterator
from dataclasses import fields

from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from unveil.serve.api.image_request import ImageJob, PngInfo, config_of, read, uploads_of
from unveil.serve.api.plot_request import PlotJob, plot_of
from unveil.serve.api.png_info import fields_of
from unveil.serve.images import Made, typed_place
from unveil.serve.jobs import Job
from unveil.serve.models import Described
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.uploads import decoded, picture
from unveil.serve.waiting import changes

SHOWN = {"queued", "running", "done", "failed", "cancelled"}


def routes(studio: Studio) -> APIRouter:
    """The routes below /api."""
    router = APIRouter(prefix="/api", tags=["unveil"])

    @router.get("/models", summary="The models, and what they can do")
    async def models() -> list[dict[str, object]]:
        return [shown_model(one, studio) for one in studio.models.described.values()]

    @router.post("/images", status_code=202, summary="Make images: a job")
    def images(asked: ImageJob) -> dict[str, object]:
        model = studio.models.find(asked.checkpoint, "image")
        uploads, mask = uploads_of(asked, studio)
        config = config_of(asked, model, studio, uploads, mask)
        given = read(config, uploads, mask, model) if uploads else None
        return shown_job(studio.images(config, given, model))

    @router.post("/plots", status_code=202, summary="Make an X/Y/Z plot of images: a job")
    def plots(asked: PlotJob) -> dict[str, object]:
        model = studio.models.find(asked.image.checkpoint, "image")
        uploads, mask = uploads_of(asked.image, studio)
        plot = plot_of(asked, model, studio, uploads, mask)
        given = read(plot.cells[0], uploads, mask, model) if uploads else None
        return shown_job(studio.plot(plot, given, model))

    @router.get("/loras", summary="The LoRA files that prompts may name, as <lora:id:0.8>")
    async def loras() -> list[dict[str, object]]:
        found = studio.models.adapters.loras
        return [{"id": name, "base": typed_place(studio.models, it.base)} for name, it in found.items()]

    @router.get("/embeddings", summary="The learned words that prompts may contain")
    async def embeddings() -> list[dict[str, object]]:
        found = studio.models.adapters.words
        return [{"word": word, "vectors": it.vectors, "width": it.width} for word, it in found.items()]

    @router.post("/png-info", summary="The settings in a PNG")
    def png_info(asked: PngInfo) -> dict[str, object]:
        upload = picture(decoded(asked.image), studio.settings.limits.megapixels)
        return fields_of(upload, studio.models)

    @router.get("/jobs", summary="The jobs, the newest last")
    async def jobs() -> list[dict[str, object]]:
        return [shown_job(job) for job in studio.jobs.jobs.values()]

    @router.get("/jobs/{job}", summary="A job")
    async def job_by_id(job: str) -> dict[str, object]:
        return shown_job(_job(studio, job))

    @router.delete("/jobs/{job}", summary="Cancel a job")
    async def cancel(job: str) -> dict[str, object]:
        it = _job(studio, job)
        studio.jobs.cancel(it)
        return shown_job(it)

    @router.get("/jobs/{job}/events", summary="The progress of a job, as server-sent events")
    async def events(job: str) -> StreamingResponse:
        return StreamingResponse(_events(_job(studio, job)), media_type="text/event-stream")

    @router.get("/jobs/{job}/preview", summary="What is predicted now: a PNG, from the second call on")
    async def preview(job: str) -> Response:
        it = _job(studio, job)
        it.watched, data = True, it.preview
        if data is None:
            return Response(status_code=204)
        return Response(data, media_type="image/png", headers={"cache-control": "no-store"})

    @router.get("/jobs/{job}/result", summary="The result of a job that makes no images: JSON")
    async def result(job: str) -> dict[str, object]:
        it = _job(studio, job).result
        if not isinstance(it, dict):
            raise Refused(404, "there is no such result")
        return it

    @router.get("/jobs/{job}/grid", summary="The labelled grid of a plot: a PNG")
    async def grid(job: str) -> Response:
        made = _job(studio, job).result
        if not isinstance(made, Made) or not made.grid:
            raise Refused(404, "there is no such grid")
        return Response(made.grid, media_type="image/png")

    @router.get("/jobs/{job}/images/{number}", summary="An image of a job: a PNG")
    async def image(job: str, number: int) -> Response:
        made = _job(studio, job).result
        if not isinstance(made, Made) or not 0 <= number < len(made.files):
            raise Refused(404, "there is no such image")
        return Response(made.files[number], media_type="image/png")

    del models, images, plots, loras, embeddings, png_info, jobs, job_by_id, cancel, events, preview, result
    del grid, image
    return router


def _job(studio: Studio, name: str) -> Job:
    job = studio.jobs.jobs.get(name)
    if job is None:
        raise Refused(404, "there is no such job; results are kept in memory, and the oldest are dropped")
    return job


def shown_job(job: Job) -> dict[str, object]:
    """A job as JSON."""
    images = len(job.result.files) if isinstance(job.result, Made) else 0
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "step": job.step,
        "steps": job.steps,
        "progress": job.progress,
        "texts": list(job.texts),
        "data": job.data,
        "images": images,
        "grid": isinstance(job.result, Made) and bool(job.result.grid),
        "infotexts": job.result.infotexts if isinstance(job.result, Made) else [],
        "error": job.error,
    }


def shown_model(model: Described, studio: Studio) -> dict[str, object]:
    """A model as JSON; not where it lies."""
    shown: dict[str, object] = {
        field.name: getattr(model, field.name) for field in fields(model) if field.name != "place"
    }
    return shown | {"loaded": model.id in studio.models.loaded}


async def _events(job: Job) -> AsyncIterator[str]:
    """`job` at each change; `preview` in it says that /preview has a new one."""
    seen = None
    async for it in changes(job):
        new, seen = it.preview is not seen, it.preview
        data = shown_job(it) | {"preview": new and it.preview is not None}
        yield f"event: job\ndata: {json.dumps(data)}\n\n"
