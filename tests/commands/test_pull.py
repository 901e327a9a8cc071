"""`unveil weights pull` against a server on this machine, with archives that look like the original's."""

import hashlib
import io
import tarfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unveil.cli import main
from unveil.commands.pull import Pull, pull
from unveil.errors import UnveilError
from unveil.planning.weights.public_archives import PUBLIC, public_archives

PLACE = "pretrained/hopper-medium-v2/diffusion/defaults_H32_T20"


def archive(name: str = f"{PLACE}/state_0.pt") -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            info = tarfile.TarInfo(name)
            info.size = 7
            tar.addfile(info, io.BytesIO(b"weights"))
        return file.getvalue()


class Server:
    """Sends `body` for whatever is asked."""

    def __init__(self) -> None:
        self.body, self.asked = archive(), []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def open(self, request: urllib.request.Request):
        """What `https` would be if this server were the internet."""
        self.asked.append(request.full_url)
        return urllib.request.urlopen(f"http://127.0.0.1:{self.http.server_port}/a", timeout=10)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    server = Server()
    yield server
    server.http.shutdown()
    server.thread.join(60)
    server.http.server_close()


def silent(*_):
    pass


def refused(config, server) -> str:
    with pytest.raises(UnveilError) as caught:
        pull(config, silent, server.open)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_archive_is_downloaded_once_unpacked_and_recorded(server, tmp_path):
    seen = []
    said = pull(Pull("diffuser-locomotion"), lambda *progress: seen.append(progress), server.open)
    assert (tmp_path / "logs" / "diffuser-locomotion" / PLACE / "state_0.pt").read_bytes() == b"weights"
    assert said.endswith("1 experiments; next: unveil weights inspect logs/diffuser-locomotion/pretrained")
    assert server.asked == [public_archives()["diffuser-locomotion"].url] and seen[-1][1] == len(server.body)
    record = tmp_path / "home" / "archives" / "pretrained.tar.sha256"
    assert record.read_text().split()[0] == hashlib.sha256(server.body).hexdigest()
    assert "exists already" in refused(Pull("diffuser-locomotion"), server)
    pull(Pull("diffuser-locomotion", tmp_path / "other"), silent, server.open)
    assert len(server.asked) == 1
    record.with_suffix("").write_bytes(archive("other"))
    assert "damaged" in refused(Pull("diffuser-locomotion", tmp_path / "third"), server)


def test_a_known_hash_or_size_is_held_against_it(server, tmp_path, monkeypatch):
    entry = public_archives()["diffuser-maze2d"]
    monkeypatch.setattr(
        "unveil.planning.weights.public_archives.public_archives",
        lambda: {"a": entry._replace(sha256="0" * 64)},
    )
    assert "is needed; it was deleted" in refused(Pull("a"), server)
    monkeypatch.setattr(
        "unveil.planning.weights.public_archives.public_archives", lambda: {"a": entry._replace(size=10**6)}
    )
    assert f"{len(server.body):,} bytes, not 1,000,000" in refused(Pull("a"), server)
    assert (
        not list((tmp_path / "home" / "archives").glob("maze2d-logs.zip*"))
        and not (tmp_path / "logs").exists()
    )


def test_a_page_instead_of_the_archive_is_not_kept(server, tmp_path):
    server.body = b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>"
    message = refused(Pull("diffuser-locomotion"), server)
    place = tmp_path / "home" / "archives" / "pretrained.tar"
    assert "a web page instead of the archive" in message and str(place) in message
    assert public_archives()["diffuser-locomotion"].page in message
    assert not list(place.parent.glob("pretrained.tar*"))
    place.write_bytes(server.body)  # what somebody puts there by hand is theirs
    assert "a web page" in refused(Pull("diffuser-locomotion"), server) and place.exists()
    place.write_bytes(archive())
    pull(Pull("diffuser-locomotion"), silent, server.open)
    assert len(server.asked) == 1


def test_an_attack_is_refused_and_leaves_nothing(server, tmp_path):
    server.body = archive("../../escaped")
    message = refused(Pull("diffuser-kuka"), server)
    assert "not a plain relative name" in message and "delete it and its .sha256" in message
    assert not list(tmp_path.rglob("escaped")) and not list((tmp_path / "logs").iterdir())


def test_without_a_network_one_line_says_what_to_do(server, capsys, monkeypatch):
    def offline(request, timeout):
        raise urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    assert main(["weights", "pull", "diffuser-locomotion"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Name or service not known" in said and "pretrained.tar" in said
    assert public_archives()["diffuser-locomotion"].page in said


def test_names(server, capsys):
    assert "did you mean diffuser-maze2d?" in refused(Pull("diffuser-maze"), server)
    assert main(["weights", "pull"]) == 2
    assert main(["weights", "pul"]) == 2
    assert "did you mean pull?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["weights", "pull", "--help"])
    assert main(["weights", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(shown.count(name) >= 2 for name in public_archives())
    assert PUBLIC.is_file()


def test_what_holds_no_experiment_is_said(server):
    server.body = archive("metainfo/a.npy")
    assert "nothing in it is an experiment" in pull(Pull("diffuser-kuka"), silent, server.open)
