"""What stands before all of the server: hosts, origins, the token, sizes of requests, and headers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from hmac import compare_digest
from typing import TYPE_CHECKING

from unveil.serve.config import LOOPBACK, Serve
from unveil.serve.refusal import Refused, body_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
SAFE = ("GET", "HEAD", "OPTIONS")
BODY_SECONDS = 60.0  # in which a request must have come
TOGETHER = 8  # times `upload`: bytes of all requests that are being read
ANYWHERE = ("0.0.0.0", "::")


def guarded(app: ASGIApp, settings: Serve, public: Callable[[str], bool]) -> ASGIApp:
    """The application behind all checks.

    A page elsewhere can make a browser send requests to this server. Such requests name another host (DNS
    rebinding) or another origin, or are marked as of another site, and are refused.

    Args:
        public: the paths that need no token: the files of the page.
    """
    largest = settings.limits.upload * 2**20
    being_read = 0

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal being_read
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            return
        taken = 0
        try:
            headers = _headers(scope)
            check_host(headers, settings)
            check_origin(headers, str(scope["method"]))
            if not public(str(scope["path"])):
                check_token(headers, settings.token)
            length = headers.get("content-length", ["0"])[0]
            if not length.isdecimal() or int(length) > largest:
                raise Refused(413, f"requests have at most {settings.limits.upload} MB (--upload)")
            taken = int(length) or largest if scope["method"] not in SAFE else 0
            if being_read + taken > TOGETHER * largest:
                taken = 0
                raise Refused(503, "too many large requests at once; try again")
            being_read += taken
            body = b"" if scope["method"] in SAFE else await _body(receive, largest)
        except Refused as refused:
            await _refuse(scope, send, refused)
            return
        except _Gone:
            return
        finally:
            being_read -= taken
        await app(scope, _replayed(body, receive), _with_headers(send))

    return guard


def check_host(headers: dict[str, list[str]], settings: Serve) -> None:
    """Refuse names of this server that are not its own.

    Raises:
        Refused: another name, or none.
    """
    hosts = headers.get("host", [])
    if len(hosts) != 1:
        raise Refused(400, "one Host is needed")
    if settings.host in ANYWHERE:  # where the token, which a page elsewhere does not know, protects
        return
    if _name(hosts[0]) not in (*LOOPBACK, settings.host.lower()):
        raise Refused(403, f"this server is not {hosts[0][:80]!r}; open it by the address that it printed")


def _name(host: str) -> str:
    """The name of a Host, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def check_origin(headers: dict[str, list[str]], method: str) -> None:
    """Refuse requests that a page of another origin made.

    Raises:
        Refused: such a request.
    """
    host = headers["host"][0].strip().lower()
    for origin in headers.get("origin", []):
        if origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, "requests from pages of other origins are refused")
    site = headers.get("sec-fetch-site", ["none"])[0]
    if method not in SAFE and site not in ("none", "same-origin"):
        raise Refused(403, "requests from pages of other sites are refused")


def check_token(headers: dict[str, list[str]], token: str) -> None:
    """Refuse requests without the token; it is compared in constant time.

    Raises:
        Refused: there is a token, and the request has none or another.
    """
    if not token:
        return
    kind, _, value = headers.get("authorization", [""])[0].partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            value = ""
    if kind.lower() not in ("bearer", "basic") or not compare_digest(value.strip().encode(), token.encode()):
        raise Refused(401, "the token is missing or wrong: send `Authorization: Bearer TOKEN`")


class _Gone(Exception):
    """The client has left."""


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


async def _body(receive: Receive, largest: int) -> bytes:
    """The whole body.

    Raises:
        Refused: it is too large, or comes too slowly.
        _Gone: the client left.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                part = message.get("body", b"")
                size += len(part)
                if size > largest:
                    raise Refused(413, f"requests have at most {largest // 2**20} MB (--upload)")
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, "the request came too slowly") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, refused: Refused) -> None:
    body = json.dumps(body_of(str(scope["path"]), refused.status, refused.message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": [*headers, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
