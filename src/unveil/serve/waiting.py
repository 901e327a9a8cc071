"""Wait for jobs in the event loop of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from starlette.requests import Request

from unveil.serve.jobs import Job, Jobs
from unveil.serve.refusal import Refused


class Changing(Protocol):
    """What calls listeners, from any thread, at each change."""

    def listen(self, listener: Callable[[], object]) -> None: ...
    def unlisten(self, listener: Callable[[], object]) -> None: ...


@asynccontextmanager
async def listening(source: Changing) -> AsyncGenerator[asyncio.Event]:
    """An event that is set at each change of a job or a session."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    source.listen(wake)
    try:
        yield event
    finally:
        source.unlisten(wake)


async def changes(job: Job) -> AsyncIterator[Job]:
    """Yield the job now and at each change, until it has ended."""
    async with listening(job) as event:
        while True:
            event.clear()
            ended = job.ended
            yield job
            if ended:
                return
            await event.wait()


async def finished(job: Job, jobs: Jobs, gone: Callable[[], Awaitable[object]]) -> object:
    """The result of a job, which is cancelled if its client leaves.

    Args:
        gone: returns when the client has left.
    Raises:
        Refused: it failed or was cancelled.
    """

    async def end() -> None:
        async for _ in changes(job):
            pass

    ending, leaving = asyncio.ensure_future(end()), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((ending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
        leaving.cancel()
        if not job.ended:
            jobs.cancel(job)
    if job.state == "done":
        return job.result
    raise refused(job)


def refused(job: Job) -> Refused:
    """Why a job has no result."""
    if job.state != "failed":
        return Refused(409, "the job was cancelled")
    return Refused(500 if job.internal else 400, job.error)


def gone_of(request: Request) -> Callable[[], Awaitable[object]]:
    """A function that returns when the client of a request has left."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return gone
