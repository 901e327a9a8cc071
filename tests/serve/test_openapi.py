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

EXAMPLES = 5  # per operation, of each kind
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore")
def test_no_request_is_an_error_of_the_server():
    """The queue takes no jobs, and nothing is trained, so that requests end at once."""
    settings = Serve(host="testserver", device="cpu", limits=Limits(trainings=0))
    studio = Studio(settings, Models((), 10**9, "cpu"), Jobs(0, 1.0, 1))
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app_of(studio))
    seen: dict[str, int] = {}

    @QUICK
    @given(st.data())
    def ask(operation, data):
        modes = [schemathesis.GenerationMode.POSITIVE]
        modes += [schemathesis.GenerationMode.NEGATIVE] if list(operation.body) else []
        for mode in modes:
            case = data.draw(operation.as_strategy(generation_mode=mode))
            with warnings.catch_warnings(action="ignore"):
                answer = case.call()
            seen[operation.label] = seen.get(operation.label, 0) + 1
            assert answer.status_code < 500, (operation.label, answer.status_code, answer.text)

    for found in schema.get_all_operations():
        ask(found.ok())
    assert len(seen) > 30
