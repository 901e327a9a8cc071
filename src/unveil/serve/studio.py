"""What the routes share: settings, models, the queue, the sessions of policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property

from unveil.image.recipes.config import SampleImage
from unveil.serve.config import Serve
from unveil.serve.images import Input, Made, check_limits, make_images
from unveil.serve.jobs import Full, Job, Jobs, Work
from unveil.serve.models import Described, Models
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
        return self.submit(
            "image", lambda job: make_images(config, given, model, self.models, job), lambda it: _size(it)
        )

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
    models = Models(settings.checkpoint, int(limits.memory * 1e9), settings.device)
    studio = Studio(settings, models, Jobs(limits.queue, limits.seconds, int(limits.kept * 1e6)))
    studio.trainings.restore()
    return studio
