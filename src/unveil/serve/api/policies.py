"""`/api/policies`: simulations of PushT that a person and a policy drive in turn."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field
from starlette.responses import StreamingResponse

from unveil.policy.settings import Delayed, PolicySettings
from unveil.serve.policies import Session, simulator_needs
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.waiting import listening

if TYPE_CHECKING:
    from unveil.policy.recipes.pusht.teleoperation import Teleoperation

STRICT = ConfigDict(extra="forbid", populate_by_name=True)
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # numpy's
Pixel = Annotated[float, Field(ge=0, le=512, allow_inf_nan=False)]
MOST_SAMPLING_STEPS = 100


@dataclass(frozen=True)
class PolicySession:
    """Settings of `unveil sample pusht` and `unveil eval pusht`; what is absent is the model's usual."""

    __pydantic_config__ = STRICT

    checkpoint: Annotated[str, Field(description="id of a model; empty: the first", max_length=200)] = ""
    start: Annotated[Seed, Field(description="seed of the start, as in the published environment")] = 100_000
    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    sampling_steps: Annotated[int | None, Field(ge=1, le=MOST_SAMPLING_STEPS)] = None
    n_action: Annotated[int | None, Field(ge=1, le=1000)] = None
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    seed: Annotated[Seed, Field(description="seed of the policy's noise")] = 0


@dataclass(frozen=True)
class PolicyCommand:
    """Changes of a simulation; what is absent stays as it is."""

    __pydantic_config__ = STRICT

    pointer: Annotated[
        tuple[Pixel, Pixel] | None, Field(description="where the person points, in pixels of 512")
    ] = None
    driver: Annotated[Literal["person", "policy"] | None, Field(description="who goes on")] = None
    delay: Annotated[int | None, Field(ge=0, le=1000, description="control steps that a decision takes")] = (
        None
    )
    asynchronous: Annotated[
        Delayed | None, Field(description="what the policy does while its next chunk is computed")
    ] = None
    keep_out: Annotated[
        tuple[()] | tuple[Pixel, Pixel, Annotated[float, Field(ge=5, le=250, allow_inf_nan=False)]] | None,
        Field(description="x, y and radius of a disc that the policy keeps out of; empty: none"),
    ] = None
    record: Annotated[bool | None, Field(description="record the person's steps, or stop")] = None
    discard: Annotated[bool, Field(description="forget the newest recorded episode")] = False
    restart: Annotated[bool, Field(description="a new start: the next seed, or that of `start`")] = False
    start: Seed | None = None


def routes(studio: Studio) -> APIRouter:
    """The routes of policies."""
    router = APIRouter(prefix="/api", tags=["unveil"])

    @router.get("/policies", summary="What has to be installed for the simulator of PushT")
    async def needs() -> dict[str, object]:
        return {"simulator_needs": simulator_needs()}

    @router.post("/policies", status_code=201, summary="Open a simulation of PushT")
    def begin(asked: PolicySession) -> dict[str, object]:
        session = _session(asked, studio)
        studio.policies.open(session)
        return {"id": session.id, **session.state}

    @router.post("/policies/{session}", summary="Point, hand over, delay, keep out, record, restart")
    def command(session: str, asked: PolicyCommand) -> dict[str, object]:
        it = studio.policies.find(session)
        if asked.pointer is not None:
            it.point(asked.pointer)
        if asked == PolicyCommand(pointer=asked.pointer):
            return it.state
        return it.command(lambda scene: obey(scene, asked))

    @router.delete("/policies/{session}", summary="Close a simulation")
    def end(session: str) -> dict[str, object]:
        studio.policies.end(session)
        return {}

    @router.get("/policies/{session}/events", summary="The states of a simulation, as server-sent events")
    async def events(session: str) -> StreamingResponse:
        return StreamingResponse(_events(studio.policies.find(session)), media_type="text/event-stream")

    @router.get(
        "/policies/{session}/demonstrations", summary="What was recorded, for `unveil train pusht --data`"
    )
    def demonstrations(session: str) -> Response:
        return _file(studio.policies.find(session))

    del needs, begin, command, end, events, demonstrations
    return router


def _session(asked: PolicySession, studio: Studio) -> Session:
    """The session that a request asks for; its policy is loaded in its thread."""
    if needed := simulator_needs():
        raise Refused(400, f"the simulator of PushT is not installed: {needed}")
    model = studio.models.find(asked.checkpoint, "policy")
    settings = PolicySettings(asked.solver, asked.sampling_steps, asked.n_action, asked.temperature)

    def make() -> "Teleoperation":
        from unveil.policy.recipes.pusht.teleoperation import teleoperation_of

        return teleoperation_of(studio.models.policy(model), model.place, settings, asked.start, asked.seed)

    return Session(make)


def obey(scene: "Teleoperation", asked: PolicyCommand) -> None:
    """Change a scene as a request asks.

    Raises:
        ValueError: a delay that the chunks of the policy cannot bridge.
    """
    from unveil.policy.recipes.pusht.teleoperation import Disc

    if asked.delay is not None or asked.asynchronous is not None:
        delay = scene.delay if asked.delay is None else asked.delay
        scene.decide_with(delay, asked.asynchronous or scene.asynchronous)
    if asked.keep_out is not None:
        scene.keep_out(Disc(*asked.keep_out) if asked.keep_out else None)
    if asked.discard:
        scene.discard()
    if asked.record is not None:
        scene.record(asked.record)
    if asked.restart:
        scene.restart(asked.start)
    if asked.driver is not None:
        scene.hand_over(asked.driver)


async def _events(session: Session) -> AsyncIterator[str]:
    """`state` after each control step, until the session is closed."""
    async with listening(session) as event:
        while True:
            event.clear()
            closed = session.closed
            yield f"event: state\ndata: {json.dumps(session.state | {'closed': closed})}\n\n"
            if closed:
                return
            await event.wait()


def _file(session: Session) -> Response:
    from unveil.policy.recipes.pusht.teleoperation import npz_of

    recorded = None if session.scene is None else session.scene.demonstrations()
    if recorded is None:
        raise Refused(
            409, "nothing has been recorded yet: record, and push the block for half a second or more"
        )
    headers = {"content-disposition": 'attachment; filename="pusht-demonstrations.npz"'}
    return Response(npz_of(recorded), media_type="application/octet-stream", headers=headers)
