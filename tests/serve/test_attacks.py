"""What strangers and other pages try: the server refuses, and serves on."""

import asyncio
import base64
import io
import re
import struct
import threading
import zlib

import pytest
from PIL import Image
from starlette.testclient import TestClient

from unveil.errors import UnveilError
from unveil.serve import guard
from unveil.serve.app import app_of, page_files
from unveil.serve.config import Limits, Serve
from unveil.serve.jobs import Jobs
from unveil.serve.refusal import Refused
from unveil.serve.run import address_of, listen
from unveil.serve.studio import Studio
from unveil.serve.uploads import decoded, picture

HERE = "http://127.0.0.1:7860"


def serving(client):
    answer = client.get("/api/models")
    return answer.status_code == 200 and bool(answer.json())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:7860",
        "",
        "localhost@evil.example",
        "[::2]:7860",
    ],
)
def test_other_hosts_are_refused(client, host):
    """A name of a stranger that points to this machine: DNS rebinding."""
    assert client.get("/api/models", headers={"host": host}).status_code == 403
    assert client.post("/sdapi/v1/txt2img", json={}, headers={"host": host}).status_code == 403
    assert serving(client)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:7860", "LOCALHOST", "[::1]:7860"])
def test_its_own_names_are_served(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "http://127.0.0.1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
])  # fmt: skip
def test_pages_elsewhere_cannot_start_jobs(client, headers):
    before = len(client.get("/api/jobs").json())
    for path in ("/api/images", "/sdapi/v1/txt2img", "/sdapi/v1/interrupt", "/v1/images/generations"):
        answer = client.post(
            path, content=b'{"prompt": "x"}', headers={"content-type": "text/plain"} | headers
        )
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert len(client.get("/api/jobs").json()) == before
    assert client.options("/api/images", headers=headers).status_code in (403, 405)
    same = client.post("/sdapi/v1/interrupt", headers={"origin": HERE, "sec-fetch-site": "same-origin"})
    assert same.status_code == 200


@pytest.mark.parametrize("path", [
    "/page/../config.py", "/page/..%2fconfig.py", "/page/%2e%2e/%2e%2e/cli.py", "/..%5c..%5cetc/passwd", "//etc/passwd",
    "/page//etc/passwd", "/page/main.js%00.png", "/api/jobs/..%2f..%2fetc", "/file=/etc/passwd", "/file/etc/passwd",
    "/api/jobs/x/images/0", "/v1/models/..%2fx",
])  # fmt: skip
def test_paths_lead_nowhere(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text and "import" not in answer.text


def test_the_page_needs_nothing_from_elsewhere_and_has_no_inline_code(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for path, (body, kind) in page_files().items():
        text = body.decode()
        assert "https://" not in text and "http://" not in text.replace(
            'xmlns="http://www.w3.org/2000/svg"', ""
        ), path
        if kind == "text/html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
            assert text.count("<script") == text.count('<script type="module" src=')
    assert client.get("/page/main.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/docs").status_code == 404


@pytest.fixture(scope="module")
def locked(studio):
    """The same server with a token."""
    settings = Serve(token="a secret", device="cpu")
    return TestClient(app_of(Studio(settings, studio.models, studio.jobs)), base_url=HERE)


@pytest.mark.parametrize(("header", "status"), [
    (None, 401), ("Bearer wrong", 401), ("Bearer ", 401), ("a secret", 401), ("Bearer a secret", 200), ("bearer a secret", 200),
    ("Basic " + base64.b64encode(b"any:a secret").decode(), 200), ("Basic " + base64.b64encode(b"a secret").decode(), 401),
    ("Basic %%%", 401), ("Digest a secret", 401), ("Bearer \xe4", 401),
])  # fmt: skip
def test_the_token(locked, header, status):
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for path in ("/api/models", "/v1/models", "/sdapi/v1/options", "/api/openapi.json", "/nothing"):
        expected = 404 if status == 200 and path == "/nothing" else status
        assert locked.get(path, headers=headers).status_code == expected
    assert locked.get("/").status_code == 200  # the page holds no secrets


def test_other_hosts_get_a_token():
    assert Serve().local and not Serve(host="0.0.0.0").local
    assert address_of(Serve(host="0.0.0.0", token="t"), 80) == "http://127.0.0.1:80/#token=t"
    assert address_of(Serve(host="::1"), 80) == "http://[::1]:80/"
    with listen(Serve(port=0)) as taken, pytest.raises(UnveilError, match="give another `port`"):
        listen(Serve(port=taken.getsockname()[1]))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, data):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def whole():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "png")
    return file.getvalue()


BAD = {
    "empty": b"",
    "text": b"not an image",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html": b"<!doctype html><script>alert(1)</script>",
    "truncated": whole()[:-2000],
    "header only": whole()[:40],
    "bomb": png_of(60_000, 60_000, zlib.compress(bytes(1000))),
    "short data": png_of(64, 64, zlib.compress(bytes(10))),
    "text bomb": png_of(8, 8, zlib.compress(bytes(8 * 25)))[:-12] + chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(80_000_000))) + chunk(b"IEND", b""),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n",
    "postscript in tiff": b"II*\0" + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_uploads_are_refused(client, name):
    text = base64.b64encode(BAD[name]).decode()
    for path, body in (
        ("/api/png-info", {"image": text}),
        ("/sdapi/v1/png-info", {"image": "data:image/png;base64," + text}),
        ("/sdapi/v1/img2img", {"init_images": [text]}),
        ("/sdapi/v1/extra-single-image", {"image": text}),
        ("/api/images", {"from": [text], "task": "img2img"}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code in (400, 413), (path, answer.text)
    files = {"image": ("x.png", BAD[name], "image/png")}
    answer = client.post("/v1/images/edits", data={"prompt": "x"}, files=files)
    assert answer.status_code in (400, 413)
    assert serving(client)


def test_an_upload_is_not_decoded_beyond_its_limit():
    with pytest.raises(Refused, match=r"larger than 0\.001 MP"):
        picture(whole(), 0.001)
    assert picture(whole(), 1.0).image.size == (64, 64)


@pytest.mark.parametrize(
    "text",
    ["file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/", "HTTPS://x", "data:text/html,<script>", "\0"],
)
def test_nothing_that_a_request_says_is_opened(text):
    with pytest.raises(Refused):
        picture(decoded(text), 1.0)


@pytest.fixture
def small(studio):
    """The same models behind small limits, with a queue of its own that nobody works on."""
    settings = Serve(device="cpu", limits=Limits(upload=1, queue=2))
    jobs = Jobs(2, 10.0, 100)
    return TestClient(app_of(Studio(settings, studio.models, jobs)), base_url=HERE), jobs


def test_large_requests_are_refused(small):
    client, _ = small
    large = b'{"prompt": "' + b"x" * 2**20 + b'"}'
    for path in ("/api/images", "/sdapi/v1/txt2img", "/v1/images/generations", "/nothing"):
        assert client.post(path, content=large).status_code == 413
        assert client.post(path, content=iter([large[:600_000], large[600_000:]])).status_code == 413
        assert client.post(path, content=b"{}", headers={"content-length": "99999999"}).status_code == 413
        assert client.post(path, content=b"{}", headers={"content-length": "-1"}).status_code == 413
    assert serving(client)


def test_a_flood_is_refused_and_cancelling_makes_room(small):
    client, jobs = small
    asked = {"checkpoint": "fashion-mnist", "steps": 2}
    answers = [client.post("/api/images", json=asked) for _ in range(30)]
    assert [answer.status_code for answer in answers] == [202, 202] + [429] * 28
    assert (
        client.post("/v1/images/generations", json={"prompt": "bag", "model": "fashion-mnist"}).status_code
        == 429
    )
    assert client.delete(f"/api/jobs/{answers[0].json()['id']}").json()["state"] == "cancelled"
    assert client.post("/api/images", json=asked).status_code == 202
    assert serving(client)
    jobs.close()


def test_json_that_is_none(client):
    for content in (
        b"[" * 100_000,
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"x"',
        b'{"steps": 1e999}',
        b'{"seed": NaN}',
    ):
        for path in ("/api/images", "/sdapi/v1/txt2img", "/sdapi/v1/options", "/v1/chat/completions"):
            answer = client.post(path, content=content, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (path, content[:20], answer.text)
    assert serving(client)


def test_slow_and_leaving_clients(monkeypatch):
    """A body that does not come is waited for with an end; a client that leaves is no error."""
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.01)

    async def app(scope, receive, send):
        raise AssertionError("reached")

    guarded = guard.guarded(app, Serve(), lambda path: False)
    scope = {"type": "http", "method": "POST", "path": "/api/images", "headers": [(b"host", b"localhost")]}

    async def never():
        await asyncio.Event().wait()

    async def left():
        return {"type": "http.disconnect"}

    def run(receive):
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(guarded(scope, receive, send))
        return sent

    assert run(never)[0]["status"] == 408
    assert run(left) == []


def test_many_connections_at_once(port):
    """200 that say nothing, while another is served."""
    import socket
    from urllib.request import urlopen

    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        idle[0].sendall(b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{")
        idle[1].sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        idle[2].sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        with urlopen(f"http://127.0.0.1:{port}/api/models", timeout=60) as answer:
            assert answer.status == 200
    finally:
        for it in idle:
            it.close()


def test_a_client_that_leaves_cancels_its_job(client, port, studio):
    """And the jobs of the others are done."""
    import socket

    running, release = threading.Event(), threading.Event()

    def hold(_):
        running.set()
        assert release.wait(20)

    held = studio.jobs.submit("image", hold)
    assert running.wait(20)
    ids = set(studio.jobs.jobs)
    leaving = socket.create_connection(("127.0.0.1", port))
    body = b'{"prompt": "a cat", "steps": 2}'
    head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    leaving.sendall(head.encode() + body)
    while len(studio.jobs.jobs) == len(ids):  # until it waits in the queue
        assert client.get("/api/jobs").status_code == 200
    (job,) = [it for name, it in studio.jobs.jobs.items() if name not in ids]
    gone = threading.Event()
    job.listen(lambda: job.ended and gone.set())
    leaving.close()
    assert gone.wait(20)
    assert job.state == "cancelled"
    release.set()
    answer = client.post("/sdapi/v1/txt2img", json={"prompt": "a cat", "steps": 2})
    assert answer.status_code == 200
    assert held.state == "done"
