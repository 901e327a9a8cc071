"""`unveil weights pull`: download public checkpoints of jannerm/diffuser, or from the Hugging Face Hub."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.files.hub import HubName
    from unveil.runs.progress import Progress


@dataclass(frozen=True)
class Pull:
    """Download public checkpoints: archives of jannerm/diffuser, or a repository of the Hugging Face Hub.

    Archives: diffuser-locomotion, diffuser-maze2d, diffuser-kuka. Of a repository, ORG/NAME[@REVISION], the
    files that unveil reads are downloaded into the cache of huggingface_hub, so that --checkpoint and
    unveil.load need no network afterwards.

    If the download fails, the archive can be downloaded by a browser and put where the message says. The
    first download is trusted: its SHA-256 is recorded, and every later call compares the file with it.

    Example: unveil weights pull diffuser-locomotion
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """name of the archive: diffuser-locomotion, diffuser-maze2d or diffuser-kuka; or ORG/NAME[@REVISION]"""
    out: Path | None = None
    """folder to unpack an archive into, which must not exist; by default logs/<name>"""


def pull(
    config: Pull,
    progress: Progress,
    opener: Callable[[urllib.request.Request], http.client.HTTPResponse] | None = None,
) -> str:
    """Download, check and unpack an archive, or download a repository; returns a summary.

    Args:
        opener: opens the connection, as in `download`.
    Raises:
        UnveilError: no such name, the folder exists, no network, a web page instead of the archive, a
            refused archive, or a repository that cannot be downloaded.
    """
    from difflib import get_close_matches

    from unveil.files.archives import extract
    from unveil.files.download import download, https
    from unveil.files.hub import hub_name
    from unveil.files.places import home
    from unveil.planning.weights.public_archives import public_archives

    known = public_archives()
    if (name := hub_name(config.name)) is not None:
        return _from_hub(name, config.out, progress)
    if config.name not in known:
        close = get_close_matches(config.name, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UnveilError(f"unknown archive {config.name!r}{hint}; public ones: {', '.join(known)}")
    it, out = known[config.name], config.out or Path("logs") / config.name
    if out.exists():
        raise UnveilError(f"{out} exists already; give another `out`")
    file = home() / "archives" / it.file
    own = not file.exists()
    try:
        download(
            it.url,
            file,
            it.sha256,
            opener or https,
            lambda done, total: progress("bytes", done, total or done, {}),
        )
    except UnveilError as error:
        raise UnveilError(f"{error}; a browser finds it at {it.page}") from error
    _check(file, own, it.size, it.page)
    try:
        count = extract(file, out)
    except UnveilError as error:
        raise UnveilError(
            f"{error}; if the file is damaged, delete it and its .sha256 to download it again"
        ) from error
    return f"{out}: {count:,} files of {it.file}, from {it.source}\n{_next(out)}"


def _from_hub(name: HubName, out: Path | None, progress: Progress) -> str:
    """Download a repository into the cache."""
    from unveil.files.hub import download

    if out is not None:
        raise UnveilError("`out` is for archives; what comes from the Hugging Face Hub stays in its cache")
    place = download(name, progress)
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**20
    return f"{place}: {len(files):,} files, {size:,.1f} MiB\nnext: unveil weights inspect {name.text}"


def _check(file: Path, own: bool, size: int | None, page: str) -> None:
    """Refuse a file that is not the archive, and delete it if this call downloaded it.

    Raises:
        UnveilError: it is a web page, or its size is not the known one.
    """
    from unveil.files.archives import is_page

    paged, bytes_ = is_page(file), file.stat().st_size
    if not paged and size in (None, bytes_):
        return
    if own:
        file.unlink()
        file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)
    what = (
        "a web page instead of the archive (a question to click on, or too many downloads)"
        if paged
        else f"{bytes_:,} bytes, not {size:,}"
    )
    raise UnveilError(
        f"{file.name}: {what}; open {page} in a browser, put what it downloads at {file} and run this again"
    )


def _next(out: Path) -> str:
    experiments = sorted({file.parent for file in out.rglob("state_*.pt")})
    if not experiments:
        return "nothing in it is an experiment that `unveil weights inspect` reads"
    above = experiments[0].parents[2]  # <logbase>/<dataset>/<diffusion or values>/<experiment>
    folder = above if above.is_relative_to(out) else out
    return f"{len(experiments)} experiments; next: unveil weights inspect {folder}"
