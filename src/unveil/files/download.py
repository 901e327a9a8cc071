"""Downloads by https: resumed, complete or absent, and verified by SHA-256 at every later use."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.atomic import replacing, sync
from unveil.files.digest import digest

BLOCK = 2**20
TIMEOUT = 30.0  # seconds without any data


def https(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Open an https connection.

    Raises:
        UnveilError: it redirects to something that is not https.
    """
    response = urllib.request.urlopen(request, timeout=TIMEOUT)
    if not response.url.startswith("https://"):
        response.close()
        raise UnveilError(
            f"cannot download {request.full_url}: it redirects to {response.url}, which is not https"
        )
    return response


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    opener: Callable[[urllib.request.Request], http.client.HTTPResponse] = https,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Download a file to `path`, unless it exists.

    Data are collected in `<path>.part`, from which the next call continues if the server still has the same
    file. The SHA-256 of a finished download is stored in `<path>.sha256` and verified by every later call. A
    file without it was put there by hand and is not verified.

    Args:
        sha256: the digest that the file must have; None trusts the first download.
        opener: opens the connection.
        progress: called with the number of bytes so far and the total, None where the server does not send
            it.
    Returns:
        `path`.
    Raises:
        UnveilError: not https, no network, truncated, the disk is full, or the digest differs.
    """
    record = path.with_name(f"{path.name}.sha256")
    if path.exists():
        verify(path, sha256)
        return path
    if not url.lower().startswith("https://"):
        raise UnveilError(f"{url}: only https:// addresses are downloaded")
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, opener, progress)
        actual = digest(part)
        if sha256 is not None and actual != sha256.lower():
            part.unlink()
            raise UnveilError(f"{url} has SHA-256 {actual}, but {sha256} is needed; it was deleted")
        with replacing(record) as partial:
            partial.write_text(f"{actual}  {path.name}\n")
        os.replace(part, path)
        _tag(part).unlink(missing_ok=True)
        sync(path.parent)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = (
            f"HTTP {error.code}"
            if isinstance(error, urllib.error.HTTPError)
            else getattr(error, "reason", None) or error
        )
        reason = " ".join(str(reason).split()) or type(error).__name__
        raise UnveilError(
            f"cannot download {url} ({reason}); get it with a browser or elsewhere and put it at {path}"
        ) from error
    except OSError as error:
        raise UnveilError(f"{path}: cannot write what {url} sends ({error.strerror or error})") from error
    return path


def verify(path: Path, sha256: str | None = None) -> None:
    """Compare the SHA-256 of a file with `sha256`, or with the one recorded beside it.

    Raises:
        UnveilError: it differs.
    """
    record = path.with_name(f"{path.name}.sha256")
    known = sha256 or (record.read_text(errors="replace").split() or [""])[0] if record.is_file() else sha256
    if known is not None and digest(path) != known.lower():
        raise UnveilError(
            f"{path}: damaged, its SHA-256 is not {known or 'recorded'}; delete it and {record.name} to "
            "download it again"
        )


def _fetch(
    url: str,
    part: Path,
    opener: Callable[[urllib.request.Request], http.client.HTTPResponse],
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Complete `part`; its tag file names the version of the server's file that the data belong to."""
    tag = _tag(part)
    have = part.stat().st_size if part.is_file() and tag.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "unveil"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text())
    try:
        response = opener(request)
    except urllib.error.HTTPError as error:
        error.close()
        # 416: the server's file is not longer than `part`, which therefore belongs to another version
        if not (have and error.code == 416):
            raise
        tag.unlink()
        return _fetch(url, part, opener, progress)
    with response:
        if (
            have
            and response.status == 206
            and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        ):
            raise UnveilError(
                f"cannot download {url}: requested bytes from {have} on, "
                f"got {response.headers.get('Content-Range')!r}"
            )
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdigit() else None
        etag = response.headers.get("ETag", "")
        version = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        with open(part, "ab" if have else "wb") as file:
            if version:
                tag.write_text(version)
            else:
                tag.unlink(missing_ok=True)
            while block := response.read(BLOCK):
                file.write(block)
                if progress is not None:
                    progress(file.tell(), total)
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size < total:
        raise UnveilError(
            f"cannot download {url}: cut short, {size:,} of {total:,} bytes; the next try continues from "
            "there"
        )
    if total is not None and size > total:
        part.unlink()
        raise UnveilError(
            f"cannot download {url}: {size:,} bytes instead of {total:,}; is another process downloading it "
            "as well?"
        )


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")
