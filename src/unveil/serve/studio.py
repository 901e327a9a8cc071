"""What the routes share: settings, models, the queue, the sessions of policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property

from unveil.image.recipes.config import SampleImage
from unveil.serve.adapters import adapters_of, named
from unveil.serve.config import Serve
from unveil.serve.images import Input, Made, check_limits, check_sides, make_images
from unveil.serve.jobs import Full, Job, Jobs, Work
from unveil.serve.models import Described, Models
from unveil.serve.plots import Plot, make_plot
from unveil.serve.policies import Sessions
from unveil.serve.refusal import Refused
from unveil.serve.trainings.runs import Trainings
from unveil.serve.waiting import finished


@dataclass(frozen=True, eq=False)
class Studio:
    """One server."""

    settings: Serve
    models: Models
    jobs: Jobs
    policies: Sessions = field(default_factory=Sessions)

    @cached_property
    def trainings(self) -> Trainings:
        """The trainings; raises UnveilError for data that do not exist."""
        return Trainings(self.settings, self.models)

    def submit(self, kind: str, work: Work, size: Callable[[object], int] = lambda _: 0) -> Job:
        """Put work into the queue.

        Raises:
            Refused: the queue is full.
        """
        try:
            return self.jobs.submit(kind, work, size)
        except Full:
            raise Refused(429, "the queue is full; try again when a job has ended") from None

    def images(self, config: SampleImage, given: Input | None, model: Described) -> Job:
        """Put a job of images into the queue; its result is `Made`.

        Raises:
            Refused: it is too large, or the queue is full.
        """
        check_limits(config, model, self.settings.limits)
        config = named(config, self.models.adapters)
        return self.submit("image", lambda job: make_images(config, given, model, self.models, job), _size)

    def plot(self, plot: Plot, given: Input | None, model: Described) -> Job:
        """Put a plot into the queue; its result is `Made`, with a grid.

        Raises:
            Refused: it is too large, or the queue is full.
        """
        limits, cells = self.settings.limits, [named(it, self.models.adapters) for it in plot.cells]
        if len(cells) > limits.largest_n:
            raise Refused(400, f"{len(cells)} images: this server makes at most {limits.largest_n} per job")
        for config in cells:
            check_limits(config, model, limits)
        width, height = cells[0].size or (model.width, model.height)
        check_sides(limits, sum(it.high.hires**2 for it in cells), width, height)
        plot = plot._replace(cells=cells)
        return self.submit("plot", lambda job: make_plot(plot, given, model, self.models, job), _size)

    def close(self) -> None:
        """Stop the training, which saves, and end the sessions and the jobs."""
        self.trainings.close()
        self.policies.close()
        self.jobs.close()

    async def made(self, job: Job, gone: Callable[[], Awaitable[object]]) -> Made:
        """The images of a job; see `finished`."""
        result = await finished(job, self.jobs, gone)
        assert isinstance(result, Made)
        return result


def _size(result: object) -> int:
    return result.size if isinstance(result, Made) else 0


def studio_of(settings: Serve) -> Studio:
    """The parts of a server, before it starts.

    Raises:
        UnveilError: a checkpoint that does not exist or is not served.
    """
    limits = settings.limits
    adapters = adapters_of(settings.lora, settings.embedding)
    models = Models(settings.checkpoint, int(limits.memory * 1e9), settings.device, adapters)
    studio = Studio(settings, models, Jobs(limits.queue, limits.seconds, int(limits.kept * 1e6)))
    studio.trainings.restore()
    return studio
