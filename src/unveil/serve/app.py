"""The application: every route behind the guard, and the page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from unveil.errors import UnveilError, one_line
from unveil.runs.machine import own_version
from unveil.serve.a1111 import routes as a1111
from unveil.serve.api import plans, policies, texts, trainings
from unveil.serve.api import routes as api
from unveil.serve.config import Serve
from unveil.serve.guard import guarded
from unveil.serve.openai import images as openai_images
from unveil.serve.openai import texts as openai_texts
from unveil.serve.refusal import Refused, body_of
from unveil.serve.studio import Studio, studio_of

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def create_app(settings: Serve) -> ASGIApp:
    """The application of a server.

    Raises:
        UnveilError: a checkpoint that does not exist or is not served.
    """
    return app_of(studio_of(settings))


def app_of(studio: Studio) -> ASGIApp:
    """The application of a server whose parts exist."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        studio.jobs.start(lambda: warm(studio))
        yield
        studio.close()

    app = FastAPI(
        title="unveil",
        version=own_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    _errors(app)
    for part in (api, plans, policies, texts, trainings):
        app.include_router(part.routes(studio))
    for part in (a1111, openai_images, openai_texts):
        app.include_router(part.routes(studio))
    page = page_files()
    for path, (body, kind) in page.items():
        _add_file(app, path, body, kind)
    return guarded(app, studio.settings, lambda path: path in page)


def warm(studio: Studio) -> None:
    """Import what the first job needs, and load its model."""
    if studio.settings.threads:
        import torch

        torch.set_num_threads(studio.settings.threads)
    images = studio.models.of_kind("image")
    if images:
        studio.models.image(images[0])


def page_files() -> dict[str, tuple[bytes, str]]:
    """The files of the page by path, with their types; these alone are served."""
    found = {
        f"/page/{file.name}": (file.read_bytes(), TYPES[f".{file.name.rpartition('.')[2]}"])
        for file in files("unveil.serve").joinpath("page").iterdir()
        if f".{file.name.rpartition('.')[2]}" in TYPES
    }
    if "/page/index.html" in found:
        found["/"] = found["/page/index.html"]
    return found


def _add_file(app: FastAPI, path: str, body: bytes, kind: str) -> None:
    async def file() -> Response:
        return Response(body, media_type=kind, headers={"cache-control": "no-cache"})

    app.add_api_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)


def _errors(app: FastAPI) -> None:
    """Errors of one line, in the form of each API."""

    def answer(request: Request, status: int, message: str) -> JSONResponse:
        return JSONResponse(body_of(request.url.path, status, one_line(message)), status)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return answer(request, error.status, error.message)

    async def wrong(request: Request, error: Exception) -> Response:
        return answer(request, 400, str(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, error.status_code, str(error.detail))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        parts = [
            f"`{'.'.join(str(place) for place in one['loc'][1:]) or 'body'}`: {one['msg']}"
            for one in error.errors()
        ]
        return answer(request, 400 if request.url.path.startswith("/v1/") else 422, "; ".join(parts[:5]))

    async def internal(request: Request, error: Exception) -> Response:
        return answer(request, 500, f"internal error, {type(error).__name__}")

    app.add_exception_handler(Refused, refused)
    for kind in (UnveilError, ValueError):
        app.add_exception_handler(kind, wrong)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, internal)
