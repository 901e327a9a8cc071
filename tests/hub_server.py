"""A Hugging Face Hub on the loopback interface: what huggingface_hub asks for, and no more.

Repositories with branches, commits and large files (LFS), private and gated ones, tokens that may read or write,
downloads that break off, and uploads. `connected` points the client of this process to it; a process of its own
gets `environment`.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

READER, WRITER = "hf_reader", "hf_writer"
LARGE = (".safetensors", ".bin", ".ckpt", ".pt")  # what the real Hub's .gitattributes keeps as LFS


@dataclass
class Repository:
    """Files by branch; `private` needs a token, `gated` one of `members`."""

    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    private: bool = False
    gated: bool = False

    def commit(self, branch: str) -> str:
        """The commit at a branch, which its contents decide."""
        listing = sorted(
            (name, hashlib.sha1(data).hexdigest()) for name, data in self.branches[branch].items()
        )
        return hashlib.sha1(json.dumps([branch, listing]).encode()).hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        for branch, files in self.branches.items():
            if revision in (branch, self.commit(branch)):
                return self.commit(branch), files
        return None


class Hub:
    """The server.

    Args:
        repositories: by `org/name`.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []  # method and path of every request
        self.sent: list[tuple[str, int, int]] = []  # file, first byte, bytes that were sent
        self.break_after: int | None = None  # bytes after which the next download of a large file breaks off
        self.large: dict[str, bytes] = {}
        self.down = False
        outer = self

        class Handler(_Handler):
            hub = outer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def put(self, repo: str, files: dict[str, bytes], branch: str = "main", **kind: bool) -> Repository:
        """Make a repository, or another branch of it."""
        it = self.repositories.setdefault(repo, Repository(**kind))
        it.branches[branch] = dict(files)
        return it

    def put_folder(self, repo: str, folder: Path, branch: str = "main", **kind: bool) -> Repository:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return self.put(repo, files, branch, **kind)

    def downloads(self) -> list[str]:
        """The names of the files that were sent, sorted."""
        return sorted({name for name, _, _ in self.sent})

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join(60)
        self.http.server_close()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """The environment of a process whose Hub this is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


def connected(hub: Hub, home: Path, monkeypatch) -> None:
    """Point the client in this process, which has read its environment already, to the server."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    values = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)


@contextmanager
def serving(home: Path, monkeypatch) -> Iterator[Hub]:
    """A hub for the client in this process, with an empty cache in a folder."""
    from huggingface_hub import utils

    hub = Hub()
    try:
        connected(hub, home, monkeypatch)
        yield hub
    finally:  # by its name since huggingface_hub 1, and before
        (getattr(utils, "close_session", None) or utils.reset_sessions)()
        hub.close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.down:
            return self._fail(503)
        if self.token not in ("", READER, WRITER):
            return self._fail(401, message="Invalid credentials in Authorization header")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(match[1], match[2] or "main", "blobs" in query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self._tree(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path):
            return self._file(*match.groups())
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            return self._branch(match[1], match[2])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            return self._preupload(match[1], json.loads(body))
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(match[1], json.loads(body))
        if match := re.fullmatch(r"/upload/(\w+)", path):
            self.hub.large[match[1]] = body
            return self._send(200, b"")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            return self._commit(match[1], match[2], body)
        if path in ("/api/agent-harnesses", "/api/validate-yaml"):
            return self._json({"errors": [], "warnings": []})
        return self._fail(404)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, b"", {name: value for name, value in headers.items() if value})

    def _repository(self, repo: str, write: bool = False) -> Repository | None:
        """A repository that the token may see; otherwise the answer is sent here."""
        it = self.hub.repositories.get(repo)
        if it is None or (it.private and not self.token):
            self._fail(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None
        if write and self.token != WRITER:
            self._fail(403 if self.token else 401, message="no right to write")
            return None
        return it

    def _at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if (it := self._repository(repo)) is None:
            return None
        if (found := it.at(revision)) is None:
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        return found

    def _info(self, repo: str, revision: str, blobs: bool) -> None:
        if (found := self._at(repo, revision)) is None:
            return
        commit, files = found
        siblings = [
            {"rfilename": name} | ({"size": len(data), "blobId": _git(data)} if blobs else {})
            for name, data in sorted(files.items())
        ]
        self._json(
            {"id": repo, "modelId": repo, "sha": commit, "private": False, "tags": [], "siblings": siblings}
        )

    def _tree(self, repo: str, revision: str) -> None:
        if (found := self._at(repo, revision)) is None:
            return
        self._json(
            [
                {"type": "file", "path": name, "size": len(data), "oid": _git(data)}
                | (
                    {"lfs": {"oid": _sha(data), "size": len(data), "pointerSize": 134}}
                    if name.endswith(LARGE)
                    else {}
                )
                for name, data in sorted(found[1].items())
            ]
        )

    def _file(self, repo: str, revision: str, name: str) -> None:
        if (found := self._at(repo, revision)) is None:
            return
        commit, files = found
        if self.hub.repositories[repo].gated and self.token != WRITER:
            return self._fail(403 if self.token else 401, "GatedRepo", "Access to model is restricted")
        if name not in files:
            return self._fail(404, "EntryNotFound", "Entry not found")
        data, large = files[name], name.endswith(LARGE)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha(data) if large else _git(data)}"'}
        if large:
            headers |= {"X-Linked-Etag": f'"{_sha(data)}"', "X-Linked-Size": str(len(data))}
        if self.command == "HEAD":
            return self._send(200, data, headers)
        first = 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", "")):
            first = int(match[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        rest, broken = data[first:], self.hub.break_after
        if large and broken is not None:
            self.hub.break_after = None
            self.hub.sent.append((name, first, broken))
            self.send_response(206 if first else 200)
            for key, value in {"Content-Length": str(len(rest)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(rest[:broken])
            self.close_connection = True
            return
        self.hub.sent.append((name, first, len(rest)))
        self._send(206 if first else 200, rest, headers)

    def _create(self, asked: dict[str, object]) -> None:
        if self.token != WRITER:
            return self._fail(403 if self.token else 401, message="no right to create")
        repo = f"{asked['organization']}/{asked['name']}"
        there = repo in self.hub.repositories
        if not there:
            private = asked.get("private") is True or asked.get("visibility") == "private"
            self.hub.put(repo, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        self._json({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo}, 409 if there else 200)

    def _branch(self, repo: str, branch: str) -> None:
        if (it := self._repository(repo, write=True)) is None:
            return
        there = branch in it.branches
        it.branches.setdefault(branch, dict(it.branches["main"]))
        self._json({}, 409 if there else 200)

    def _preupload(self, repo: str, asked: dict[str, list[dict[str, str]]]) -> None:
        if self._repository(repo, write=True) is None:
            return
        modes = [
            {
                "path": it["path"],
                "uploadMode": "lfs" if it["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for it in asked["files"]
        ]
        self._json({"files": modes})

    def _batch(self, repo: str, asked: dict[str, list[dict[str, object]]]) -> None:
        if self._repository(repo, write=True) is None:
            return
        objects = [
            {
                "oid": it["oid"],
                "size": it["size"],
                "actions": {"upload": {"href": f"{self.hub.url}/upload/{it['oid']}"}},
            }
            for it in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, branch: str, body: bytes) -> None:
        if (it := self._repository(repo, write=True)) is None:
            return
        files = it.branches[branch]
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                data = self.hub.large[value["oid"]]
                assert _sha(data) == value["oid"] and len(data) == value["size"]
                files[value["path"]] = data
        commit = it.commit(branch)
        self._json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}"}
        )


def _git(data: bytes) -> str:
    """The id of a blob in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
