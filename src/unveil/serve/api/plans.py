"""`/api/plans` and `/api/clips`: the planners of mazes and of bodies."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from unveil.planning.planner_settings import LADDER, PlannerSettings
from unveil.serve.api.routes import shown_job
from unveil.serve.models import Described
from unveil.serve.plans import (
    Route,
    check_route,
    clips_need,
    drives_need,
    layout_at,
    make_clip,
    make_plan,
    size_of_plan,
)
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio

STRICT = ConfigDict(extra="forbid", populate_by_name=True)
MOST_CANDIDATES = 256
MOST_VIA = 16

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1000, le=1000)]
Position = Annotated[tuple[Number, Number], Field(description="row and column, in cells")]


@dataclass(frozen=True)
class PlanJob:
    """Settings of `unveil sample maze`; what is absent is the model's usual."""

    __pydantic_config__ = STRICT

    start: Position
    goal: Position
    checkpoint: Annotated[str, Field(description="id of a model; empty: the first", max_length=200)] = ""
    via: Annotated[
        tuple[tuple[Number, Number] | tuple[Number, Number, Annotated[int, Field(ge=0)]], ...],
        Field(
            max_length=MOST_VIA,
            description="waypoints: row, column, and the number of the path's position if any",
        ),
    ] = ()
    horizon: Annotated[
        int | None, Field(ge=2, le=100_000, description="number of positions; not with `drive`")
    ] = None
    budget_ms: Annotated[
        float | None,
        Field(gt=0, le=60_000, description="wall time of the plan, which chooses `steps` and `candidates`"),
    ] = None
    candidates: Annotated[int | None, Field(ge=1, le=MOST_CANDIDATES)] = None
    pace: tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]] | None = None
    steps: Annotated[int | None, Field(ge=1, description="denoising steps")] = None
    temperature: Annotated[float | None, Field(ge=0, le=10)] = None
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0
    drive: Annotated[
        bool, Field(description="drive a ball along the plan, if the simulator is installed")
    ] = True


@dataclass(frozen=True)
class ClipJob:
    """An episode of `unveil eval locomotion`, as an animation."""

    __pydantic_config__ = STRICT

    checkpoint: Annotated[str, Field(description="id of a model; empty: the first", max_length=200)] = ""
    max_episode_length: Annotated[int, Field(ge=1, le=1000, description="environment steps")] = 300
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0


def routes(studio: Studio) -> APIRouter:
    """The routes of plans and clips."""
    router = APIRouter(prefix="/api", tags=["unveil"])

    @router.get("/plans", summary="What has to be installed for simulators, and what budgets choose from")
    async def plans() -> dict[str, object]:
        return {"drive_needs": drives_need(), "clips_need": clips_need(), "ladder": LADDER}

    @router.post("/plans", status_code=202, summary="Plan a path in a maze: a job")
    def plan(asked: PlanJob) -> dict[str, object]:
        model = _found(studio, asked.checkpoint, "maze")
        route, layout = route_of(asked, studio), layout_at(model)
        check_route(route, layout)
        work = studio.submit(
            "plan", lambda job: make_plan(route, model, layout, studio.models, job), size_of_plan
        )
        return shown_job(work)

    @router.post("/clips", status_code=202, summary="Let a body walk: a job")
    def clip(asked: ClipJob) -> dict[str, object]:
        model = _found(studio, asked.checkpoint, "body")
        if needed := clips_need():
            raise Refused(400, f"the simulator of bodies is not installed: {needed}")
        length, seed = asked.max_episode_length, asked.seed
        work = studio.submit(
            "clip", lambda job: make_clip(model, length, seed, studio.models, job), size_of_plan
        )
        return shown_job(work)

    del plans, plan, clip
    return router


def _found(studio: Studio, name: str, what: str) -> Described:
    """The planner of an id that plans in a maze, or for a body; "": the first."""
    known = [one for one in studio.models.of_kind("planner") if getattr(one, what)]
    found = next((one for one in known if one.id == name or not name), None)
    if found is None:
        ids = ", ".join(one.id for one in known) or "none"
        raise Refused(404, f"there is no planner of a {what} named {name[:80]!r}; there are {ids}")
    return found


def route_of(asked: PlanJob, studio: Studio) -> Route:
    """The plan that a request asks for.

    Raises:
        ValueError, Refused: settings that exclude each other or are too large.
    """
    most = studio.settings.limits.largest_steps
    if asked.steps is not None and asked.steps > most:
        raise Refused(400, f"`steps`: at most {most} steps per job (--largest-steps)")
    if asked.drive and asked.horizon is not None:
        raise Refused(
            400, "`horizon` needs `drive=false`: a ball is driven along plans of the learned travel time"
        )
    named = ("candidates", "pace", "steps", "temperature")
    values = {name: value for name in named if (value := getattr(asked, name)) is not None}
    if asked.budget_ms is not None and values.keys() & {"candidates", "steps"}:
        raise Refused(400, "`budget_ms` chooses `steps` and `candidates`; leave these out")
    via = tuple((stop[2] if len(stop) == 3 else None, (stop[0], stop[1])) for stop in asked.via)
    settings = PlannerSettings(**values)
    return Route(
        asked.start, asked.goal, via, asked.horizon, asked.budget_ms, settings, asked.seed, asked.drive
    )
