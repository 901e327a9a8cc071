"""`unveil serve`: where it listens, what it prints, and what it imports."""

import signal
import subprocess
import sys
import threading

import pytest
import uvicorn

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.serve.config import Limits, Serve
from unveil.serve.models import Models, describe
from unveil.serve.run import serve
from unveil.serve.studio import Studio


@pytest.fixture
def served(monkeypatch):
    """The addresses of the servers that would have run."""
    found = []

    def run(self, sockets):
        found.append(sockets[0].getsockname())
        sockets[0].close()
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


def test_it_listens_on_this_machine_alone_and_says_where(served, capsys):
    assert main(["serve", "--port", "0"]) == 0
    host, port = served[0]
    assert host == "127.0.0.1"
    assert capsys.readouterr().out == f"unveil: http://127.0.0.1:{port}/ (Ctrl+C stops it)\n"


def test_another_host_gets_a_random_token_unless_one_is_given(served):
    said = []
    for token in ("", "", "mine"):
        serve(Serve(host="0.0.0.0", port=0, token=token), said.append)
    tokens = [line.partition("#token=")[2].partition(" ")[0] for line in said]
    assert len(tokens[0]) >= 32
    assert tokens[0] != tokens[1]
    assert tokens[2] == "mine"


def test_a_signal_closes_jobs_and_sessions_so_that_their_readers_leave(monkeypatch):
    closed = threading.Event()
    stopped = []

    def run(self, sockets):
        self.handle_exit(signal.SIGTERM, None)
        stopped.append(self.should_exit)
        assert closed.wait(20)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(Studio, "close", lambda self: closed.set())
    serve(Serve(port=0), lambda line: None)
    assert stopped == [True]


def test_mistakes_are_one_line(served, capsys, tmp_path):
    other = tmp_path / "clip"
    other.mkdir()
    (other / "config.json").write_text('{"recipe": "clip"}')
    for words, said in (
        (["--checkpoint", "nothing-here"], "neither a folder nor a packaged model"),
        (["--checkpoint", str(other)], "this is none of them"),
        (["--checkpoint", str(tmp_path)], "no good checkpoint"),
        (["--port", "99999"], "--port must be a whole number of at least 0"),
        (["--queue", "0"], "--queue"),
    ):
        assert main(["serve", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not served


def test_models_are_described_without_loading_them():
    found = describe("emoji-text", "emoji-text")
    assert found is not None and (found.width, found.prompts, found.latent) == (64, True, True)
    planner, policy = describe("maze-umaze", "mine"), describe("pusht-keypoints", "mine")
    assert planner is not None and (planner.kind, planner.maze[0]) == ("planner", "#####")
    assert policy is not None and (policy.kind, policy.most_delay) == ("policy", 7)
    with pytest.raises(UnveilError):
        describe("nothing-here", "x")


def test_the_oldest_models_are_unloaded_when_memory_is_full():
    models = Models((), 25_000_000, "cpu")
    clothes, emoji, text = (
        models.find(name, "image") for name in ("fashion-mnist", "shapes-text", "emoji-text")
    )
    first = models.image(clothes)
    models.image(emoji)
    assert models.image(clothes) is first
    models.memory = 1
    models.image(text)
    assert models.loaded == ["emoji-text"]
    assert models.image(clothes) is not first


def test_the_server_starts_without_torch():
    """So that the page comes within seconds; torch is imported by the worker, meanwhile."""
    code = (
        "import sys; from unveil.serve.config import Serve; assert 'fastapi' not in sys.modules;"
        "from unveil.serve.app import create_app; create_app(Serve()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_limits_are_checked():
    with pytest.raises(ValueError, match="`megapixels`"):
        Limits(megapixels=0.0)
