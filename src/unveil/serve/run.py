"""`unveil serve`: listen, say where, and stop."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from secrets import token_urlsafe
from types import FrameType

from unveil.errors import UnveilError
from unveil.serve.config import Serve

CONNECTIONS = 512
GRACE = 3  # seconds for open connections when the server stops


def serve(config: Serve, say: Callable[[str], object]) -> None:
    """Serve until interrupted.

    Args:
        say: prints a line.
    Raises:
        UnveilError: the port is taken, or a checkpoint that is not served.
    """
    if not (config.local or config.token):
        config = replace(config, token=token_urlsafe(24))
    with contextlib.closing(listen(config)) as listening:
        import uvicorn

        from unveil.serve.app import app_of
        from unveil.serve.studio import studio_of

        studio = studio_of(config)
        server = uvicorn.Server(
            uvicorn.Config(
                app_of(studio),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=GRACE,
                ws="none",
            )
        )
        stop = server.handle_exit

        def end(sig: int, frame: FrameType | None) -> None:
            """Close jobs and sessions, so that their readers leave, and stop; in a thread, since a signal may
            come while this one holds their locks."""
            threading.Thread(target=studio.close, daemon=True).start()
            stop(sig, frame)

        server.handle_exit = end
        address = address_of(config, listening.getsockname()[1])
        say(f"unveil: {address} (Ctrl+C stops it)")
        if config.open:
            import webbrowser

            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):  # which the server raises again when it has stopped
            server.run(sockets=[listening])


def listen(config: Serve) -> socket.socket:
    """A socket that listens.

    Raises:
        UnveilError: it cannot.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise UnveilError(
            f"{config.host}:{config.port} cannot be used ({error.strerror}); give another `port`, or `port=0`"
        ) from error
    listening.listen(256)
    return listening


def address_of(config: Serve, port: int) -> str:
    """The address of the page; the token is behind #, which browsers do not send."""
    host = "127.0.0.1" if config.host == "0.0.0.0" else config.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"#token={config.token}" if config.token else "")
