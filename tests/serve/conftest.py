"""One server for the tests of the APIs, with the packaged models; and one that listens on the loopback interface."""

import threading
from importlib.util import find_spec

import pytest

HAS = all(find_spec(name) for name in ("fastapi", "uvicorn", "python_multipart"))
collect_ignore_glob = [] if HAS else ["test_*.py"]
HERE = "http://127.0.0.1:7860"


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    from unveil.serve.config import Serve
    from unveil.serve.studio import studio_of

    return studio_of(Serve(device="cpu", runs=tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="session")
def client(studio):
    from starlette.testclient import TestClient

    from unveil.serve.app import app_of

    with TestClient(app_of(studio), base_url=HERE) as client:
        yield client


@pytest.fixture(scope="session")
def port(client, studio):
    """The port of a server with the same models and queue; it listens before it answers."""
    import uvicorn

    from unveil.serve.app import app_of
    from unveil.serve.config import Serve
    from unveil.serve.run import listen

    listening = listen(Serve(port=0))
    # its lifespan is that of `client`
    server = uvicorn.Server(uvicorn.Config(app_of(studio), log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=20)
