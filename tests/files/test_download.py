"""Downloads against a server on this machine: resumed, whole or not at all, and recognised later."""

import hashlib
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.files.download import BLOCK, download, https

BODY = np.random.default_rng(0).bytes(3 * BLOCK + 17)
URL = "https://data.example/sets/a.hdf5"


class Server:
    """Serves `body` under the tag; `cut` ends the connection after so many bytes; `claim` is what
    Content-Length says."""

    def __init__(self) -> None:
        self.body, self.tag, self.cut, self.claim, self.status = BODY, '"one"', None, None, 200
        self.shift = 0  # bytes by which an answer to Range starts too late
        self.asked: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(dict(self.headers))
                first = int(self.headers.get("Range", "bytes=0-")[6:-1])
                if self.headers.get("If-Range") != outer.tag:
                    first = 0
                if outer.status != 200 or first > len(outer.body):
                    self.send_error(outer.status if outer.status != 200 else 416)
                    return
                self.send_response(206 if first else 200)
                if first:
                    self.send_header(
                        "Content-Range",
                        f"bytes {first + outer.shift}-{len(outer.body) - 1}/{len(outer.body)}",
                    )
                if outer.tag:
                    self.send_header("ETag", outer.tag)
                self.send_header("Content-Length", str(outer.claim or len(outer.body) - first))
                self.end_headers()
                with suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # a client that has seen enough hangs up
                    self.wfile.write(outer.body[first : outer.cut])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def open(self, request: urllib.request.Request):
        """What `https` would be if this server were the internet."""
        assert request.full_url == URL
        local = urllib.request.Request(
            f"http://127.0.0.1:{self.http.server_port}/a", headers=dict(request.header_items())
        )
        return urllib.request.urlopen(local, timeout=10)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.thread.join(60)
    server.http.server_close()


def refused(*arguments, **settings) -> str:
    with pytest.raises(UnveilError) as caught:
        download(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_download_is_whole_recorded_and_not_repeated(server, tmp_path):
    path, seen = tmp_path / "deep" / "a.hdf5", []
    assert (
        download(URL, path, opener=server.open, progress=lambda done, total: seen.append((done, total)))
        == path
    )
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY)) and [done for done, _ in seen] == sorted(
        done for done, _ in seen
    )
    assert (
        tmp_path / "deep" / "a.hdf5.sha256"
    ).read_text() == f"{hashlib.sha256(BODY).hexdigest()}  a.hdf5\n"
    assert {file.name for file in path.parent.iterdir()} == {"a.hdf5", "a.hdf5.sha256"}
    download(URL, path, opener=server.open)
    assert len(server.asked) == 1 and "Range" not in server.asked[0]


def test_a_file_that_changed_on_disk_is_not_used(server, tmp_path):
    path = download(URL, tmp_path / "a.hdf5", opener=server.open)
    path.write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert "damaged" in refused(URL, path, opener=server.open) and len(server.asked) == 1
    (tmp_path / "a.hdf5.sha256").unlink()  # put there by hand
    assert download(URL, path, opener=server.open) == path


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path):
    path = tmp_path / "a.hdf5"
    server.cut = BLOCK + 5
    assert f"cut short, {BLOCK + 5:,} of {len(BODY):,} bytes" in refused(URL, path, opener=server.open)
    assert not path.exists() and (tmp_path / "a.hdf5.part").read_bytes() == BODY[: BLOCK + 5]
    server.cut = None
    assert download(URL, path, opener=server.open).read_bytes() == BODY
    assert server.asked[1]["Range"] == f"bytes={BLOCK + 5}-"
    assert {file.name for file in tmp_path.iterdir()} == {"a.hdf5", "a.hdf5.sha256"}


def test_pieces_of_two_versions_are_never_joined(server, tmp_path):
    path = tmp_path / "a.hdf5"
    server.cut = 1000
    refused(URL, path, opener=server.open)
    server.cut, server.tag, server.body = None, '"two"', BODY[::-1]
    assert download(URL, path, opener=server.open).read_bytes() == BODY[::-1]


def test_without_a_tag_it_starts_again(server, tmp_path):
    path, server.tag, server.cut = tmp_path / "a.hdf5", "", 1000
    refused(URL, path, opener=server.open)
    server.cut = None
    assert download(URL, path, opener=server.open).read_bytes() == BODY
    assert "Range" not in server.asked[1]


def test_an_answer_from_another_place_is_refused(server, tmp_path):
    path, server.cut = tmp_path / "a.hdf5", 1000
    refused(URL, path, opener=server.open)
    server.cut, server.shift = None, 1
    assert "requested bytes from 1000 on" in refused(URL, path, opener=server.open)


def test_a_part_longer_than_the_file_is_started_again(server, tmp_path):
    path = tmp_path / "a.hdf5"
    (tmp_path / "a.hdf5.part").write_bytes(BODY + b"more")
    (tmp_path / "a.hdf5.part.tag").write_text('"one"')
    assert download(URL, path, opener=server.open).read_bytes() == BODY
    assert len(server.asked) == 2


def test_the_wrong_file_is_thrown_away(server, tmp_path):
    path = tmp_path / "a.hdf5"
    assert "is needed; it was deleted" in refused(URL, path, "0" * 64, opener=server.open)
    assert not list(tmp_path.glob("a.hdf5*")) or [file.name for file in tmp_path.iterdir()] == [
        "a.hdf5.part.tag"
    ]
    download(URL, path, hashlib.sha256(BODY).hexdigest().upper(), opener=server.open)
    assert "damaged" in refused(URL, path, "0" * 64)


def test_no_network_no_such_file_no_room(server, tmp_path):
    def offline(request):
        raise urllib.error.URLError(OSError(-2, "Name or service not known"))

    message = refused(URL, tmp_path / "a.hdf5", opener=offline)
    assert (
        f"cannot download {URL} (" in message
        and "Name or service not known" in message
        and str(tmp_path / "a.hdf5") in message
    )
    server.status = 404
    assert f"cannot download {URL} (HTTP 404)" in refused(URL, tmp_path / "a.hdf5", opener=server.open)
    (tmp_path / "file").write_text("x")
    assert "cannot write what" in refused(URL, tmp_path / "file" / "a.hdf5", opener=server.open)


def test_only_https(server, tmp_path, monkeypatch):
    for url in ("http://data.example/a", "file:///etc/passwd", "ftp://data.example/a", "a"):
        assert "only https://" in refused(url, tmp_path / "a.hdf5", opener=server.open)
    real = urllib.request.urlopen
    plain = f"http://127.0.0.1:{server.http.server_port}/a"
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda request, timeout: real(plain, timeout=timeout)
    )  # a redirect, followed
    with pytest.raises(UnveilError, match=r"redirects to http://127\.0\.0\.1"):
        https(urllib.request.Request(URL))
