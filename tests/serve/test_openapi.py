"""Whatever fits the OpenAPI document, or does not: no answer is an error of the server."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from unveil.serve.app import app_of
from unveil.serve.config import Limits, Serve
from unveil.serve.jobs import Jobs
from unveil.serve.models import Models
from unveil.serve.studio import Studio

schemathesis = pytest.importorskip("schemathesis")


def quick(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


SMALL = Limits(trainings=0, largest_n=2, largest_steps=2, largest_tokens=2, megapixels=0.02, seconds=5.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("examples", "least"), [(4, 150), pytest.param(75, 2000, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("works", [False, True], ids=["refusing", "working"])
def test_no_request_is_an_error_of_the_server(examples, least, works):
    """Nor does a job end by an error that is not explained.

    Args:
        examples: per operation, of each kind.
        least: number of requests in all.
        works: small jobs are done; else the queue takes none, so that requests end at once. Nothing is trained.
    """
    limits = SMALL if works else Limits(trainings=0)
    jobs = Jobs(64 if works else 0, limits.seconds, 10**6)
    studio = Studio(Serve(host="testserver", device="cpu", limits=limits), Models((), 10**9, "cpu"), jobs)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app_of(studio))
    seen: dict[str, int] = {}
    failed: list[tuple[str, str]] = []

    def submit(kind, work, size=lambda _: 0):
        job = Jobs.submit(jobs, kind, work, size)
        job.listen(lambda: job.internal and failed.append((label[-1], job.error)))
        return job

    label = [""]
    jobs.submit = submit
    if works:
        jobs.start()

    @quick(examples)
    @given(st.data())
    def ask(operation, data):
        modes = [schemathesis.GenerationMode.POSITIVE]
        modes += [schemathesis.GenerationMode.NEGATIVE] if list(operation.body) else []
        for mode in modes:
            case = data.draw(operation.as_strategy(generation_mode=mode))
            label.append(operation.label)
            with warnings.catch_warnings(action="ignore"):
                answer = case.call(timeout=600.0)  # the machine may be busy
            seen[operation.label] = seen.get(operation.label, 0) + 1
            assert answer.status_code < 500, (operation.label, answer.status_code, answer.text)

    try:
        for found in schema.get_all_operations():
            ask(found.ok())
    finally:
        jobs.close()
    assert failed == []
    assert len(seen) > 30
    print(f"{sum(seen.values())} requests to {len(seen)} operations; {len(jobs.jobs)} jobs")
    assert sum(seen.values()) >= least
