"""The Hugging Face Hub: names of repositories, downloads into its cache, uploads.

huggingface_hub does all transfers, so its environment holds: HF_HOME and HF_HUB_CACHE (where the cache is),
HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT. It is imported when a name of a repository is read, not before.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from unveil.errors import UnveilError, reason
from unveil.files.hub_layouts import FILES, Needed, needed

if TYPE_CHECKING:
    from huggingface_hub import HfApi

EXPLICIT = "hf:/"  # a prefix that no path has: hf://org/name, or hf:/org/name after `Path`
OWN_FOLDERS = ("runs", "logs")  # where trainings write by default: a missing run is no repository
CLIENTS = ("httpx", "httpx2", "httpcore", "requests", "urllib3")  # packages that huggingface_hub sends by
_PART = r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(
    rf"(?P<repo>{_PART}/{_PART})"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/:@]{1,200}|[^/:@]{1,200}))?"
    r"(?:/(?P<inside>[^:@]{1,400}[^:@/]|[^:@/]))?"
    r"(?::(?P<variant>\w{1,32}))?",
    re.ASCII,
)


class HubName(NamedTuple):
    """A checkpoint in a repository of the Hugging Face Hub, `org/name[@revision][/inside][:variant]`.

    Args:
        text: as it was typed, for messages.
        revision: branch, tag or commit; None is the main branch.
        inside: file or folder of the repository, "" for the whole.
        variant: preferred precision of the weights, such as fp16.
    """

    text: str
    repo: str
    revision: str | None = None
    inside: str = ""
    variant: str = ""


def hub_name(text: str) -> HubName | None:
    """Parse the name of a repository; None for what can only be a path.

    Paths are what exists, what begins with a folder that exists or with `runs/` or `logs/`, and whatever has
    more parts than two, unless it has a revision or ends like a file of weights. With `hf://` in front it is
    always a repository.
    """
    explicit = text.startswith(EXPLICIT)
    match = _NAME.fullmatch(text.removeprefix(EXPLICIT).lstrip("/") if explicit else text)
    if match is None or "--" in match["repo"] or ".." in match["repo"]:
        return None
    inside = match["inside"] or ""
    if not explicit:
        first = match["repo"].partition("/")[0]
        file = inside.rpartition(".")[2] in (*FILES, "bin")
        if first in OWN_FOLDERS or (inside and not match["revision"] and not file):
            return None
        if Path(first).is_dir() or Path(text).exists():
            return None
    revision = match["revision"]
    return HubName(
        text, match["repo"], None if revision is None else unquote(revision), inside, match["variant"] or ""
    )


def hidden(text: str) -> str:
    """How to write a name of a repository that a folder of the first part's name hides, to end a sentence."""
    name = None if Path(text).exists() else hub_name(f"{EXPLICIT}/{text}")
    if name is None or name.inside or name.repo.startswith(tuple(f"{own}/" for own in OWN_FOLDERS)):
        return ""
    return f"; the repository of the Hugging Face Hub is {EXPLICIT}/{text}"


def download(
    name: HubName,
    progress: Callable[[str, int, int, Mapping[str, float | int]], None],
    only: Sequence[str] = (),
) -> Path:
    """The path of a checkpoint in the cache, after the files that it needs were downloaded into it.

    The Hub is asked which commit the revision is. If it cannot be reached, or HF_HUB_OFFLINE is set, the
    cache is used if it holds all that is needed. Files that are complete are not downloaded again.

    Args:
        progress: called with what is done, bytes so far, all bytes, and {}.
        only: the layouts that can be used, `hub_layouts.OURS` first; others are refused before they are
            downloaded. (): all.
    Returns:
        A folder, or the file if the checkpoint is a single file. Whatever is in it is read-only.
    Raises:
        UnveilError: huggingface_hub is not installed, no such repository, revision or file, no permission, no
            network, a full disk, or a repository in no layout that is read.
    """
    hub = _huggingface(name.text)
    try:
        info = _api(hub).model_info(name.repo, revision=name.revision, files_metadata=True)
        sizes = {it.rfilename: it.size or 0 for it in info.siblings or ()}
    except Exception as error:
        why = _why(error, name.repo, name.revision)
        if why is None:
            raise
        if (folder := _cached(hub, name, error)) is None:
            raise UnveilError(_missing(name, why)) from error
        chosen = _needed(name, _known(hub, name, folder), only)
        if lacking := [file for file in chosen.files if not (folder / file).is_file()]:
            raise UnveilError(
                f"{name.text}: {len(lacking)} of {len(chosen.files)} files are not in the cache "
                f"({', '.join(lacking[:2])}), and {why}"
            ) from error
        return folder / chosen.place
    chosen = _needed(name, sizes, only)
    folder = _fetch(hub, name, chosen, {file: sizes[file] for file in chosen.files}, str(info.sha), progress)
    return folder / chosen.place


def upload(
    repo: str,
    files: Mapping[str, Path | bytes],
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "unveil weights push",
    keep: Callable[[set[str], Callable[[str], str]], Iterable[str]] = lambda names, read: (),
) -> str:
    """Commit files to a repository, which is created if there is none; returns its address.

    Args:
        repo: `org/name`.
        files: name in the repository -> local file or contents.
        private: whether a repository that is created is visible to its owner alone.
        revision: branch, which is created if there is none; None is the main branch.
        keep: called with the names of the files that are there, and a function that reads one of them as
            text; returns the names of those that stay as they are.
    Raises:
        UnveilError: huggingface_hub is not installed, no valid name, no token or one that may not write, no
            network, or what `keep` raises.
    """
    hub = _huggingface(repo)
    api = _api(hub)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        there = {it.rfilename for it in api.model_info(repo, revision=revision).siblings or ()}

        def read(name: str) -> str:
            return Path(api.hf_hub_download(repo, name, revision=revision)).read_text("utf-8", "replace")

        kept = set(keep(there, read))
        operations = [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
            for name, content in files.items()
            if name not in kept
        ]
        api.create_commit(repo, operations, commit_message=message, revision=revision)
    except Exception as error:
        if isinstance(error, UnveilError) or (why := _why(error, repo, revision, write=True)) is None:
            raise
        raise UnveilError(f"{repo}: cannot be written on the Hugging Face Hub: {why}") from error
    return f"{api.endpoint}/{repo}" + (f"/tree/{revision}" if revision else "")


def _huggingface(text: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UnveilError(
            f"{text}: no such file or folder; to read it as a repository of the Hugging Face Hub, install "
            "huggingface_hub: pip install 'unveil[hub]'"
        ) from error
    return huggingface_hub


def _api(hub: ModuleType) -> "HfApi":
    return hub.HfApi(library_name="unveil")


def _missing(name: HubName, why: str) -> str:
    start = "" if name.text.startswith(EXPLICIT) else "no such file or folder; "
    return f"{name.text}: {start}as a repository of the Hugging Face Hub: {why}"


def _needed(name: HubName, files: Iterable[str], only: Sequence[str]) -> Needed:
    try:
        chosen = needed(files, name.variant, name.inside)
    except UnveilError as error:
        raise UnveilError(f"{name.text}: {error}") from error
    if only and chosen.layout not in only:
        raise UnveilError(
            f"{name.text} is {chosen.layout}, but {only[0]} is needed here; convert it first: unveil weights "
            f"convert {name.text} OUT"
        )
    return chosen


def _fetch(
    hub: ModuleType,
    name: HubName,
    chosen: Needed,
    sizes: Mapping[str, int],
    commit: str,
    progress: Callable[[str, int, int, Mapping[str, float | int]], None],
) -> Path:
    """Download files into the cache; returns the folder of the commit."""
    new = {
        file: size
        for file, size in sizes.items()
        if not isinstance(hub.try_to_load_from_cache(name.repo, file, revision=commit), str)
    }
    what, total, shown = f"bytes of {name.repo}", sum(new.values()), -1

    def report(done: int) -> None:
        nonlocal shown
        if total and shown < min(done, total):
            shown = min(done, total)
            progress(what, shown, total, {})

    report(0)
    try:
        folder = Path(
            hub.snapshot_download(
                name.repo,
                revision=name.revision,
                allow_patterns=[escape(file) for file in chosen.files],
                library_name="unveil",
                tqdm_class=_bars(report),
            )
        )
    except Exception as error:
        if (why := _why(error, name.repo, name.revision)) is None:
            raise
        raise UnveilError(f"{name.text}: cannot be downloaded: {why}") from error
    if lacking := [file for file in chosen.files if not (folder / file).is_file()]:
        raise UnveilError(f"{name.text}: it changed during the download (no {lacking[0]}); run this again")
    report(total)
    return folder


def _cached(hub: ModuleType, name: HubName, error: Exception) -> Path | None:
    """The folder of a revision in the cache; None if there is none, or the Hub said that there is none."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        return None
    try:
        return Path(
            hub.snapshot_download(
                name.repo, revision=name.revision, local_files_only=True, allow_patterns=list[str]()
            )
        )
    except (LocalEntryNotFoundError, ValueError):
        return None


def _known(hub: ModuleType, name: HubName, folder: Path) -> list[str]:
    """The files of a revision that the cache knows of: those of the repository, if it keeps a list of them
    (from huggingface_hub 2 on), else those that were downloaded."""
    listed = getattr(hub, "get_cached_repo_tree", None)
    if listed is not None:
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            return [str(it.path) for it in listed(name.repo, revision=name.revision)]
        except CachedRepoTreeNotFoundError:
            pass
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def _why(error: Exception, repo: str, revision: str | None, write: bool = False) -> str | None:
    """What went wrong on the way to the Hub, and what to do; None if the error is not of such a kind."""
    from huggingface_hub import constants, errors, get_token

    where = constants.ENDPOINT
    if isinstance(error, RuntimeError) and isinstance(
        error.__cause__, Exception
    ):  # of one of several uploads
        return _why(error.__cause__, repo, revision, write)
    if isinstance(error, errors.HFValidationError):
        return "no valid name of a repository"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it" + ("" if write else " to download what is not in the cache")
    if isinstance(error, errors.GatedRepoError):
        return f"it is gated: ask for access at {where}/{repo}, and set HF_TOKEN to a token of your account"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision or 'main'!r}"
    if isinstance(error, errors.RepositoryNotFoundError):
        if get_token() is None:
            return "no such repository, or a private one, for which to set HF_TOKEN or run hf auth login"
        return "no such repository, or the token (HF_TOKEN, hf auth login) may not read it"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, OSError):
        return f"a file is missing ({reason(error)})"
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.HfHubHTTPError) and status:
        if status in (401, 403):
            need = "may not write here" if write else "is not valid, or may not read it"
            return (
                f"a token is needed: set HF_TOKEN, or run hf auth login (HTTP {status})"
                if get_token() is None
                else f"the token (HF_TOKEN, hf auth login) {need} (HTTP {status})"
            )
        if status == 429:
            return "too many requests (HTTP 429); wait a few minutes, or set HF_TOKEN"
        return f"{where} answers HTTP {status}; try again later"
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return f"{error.filename or constants.HF_HUB_CACHE}: {error.strerror or error}"
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return "it was cut short; run this again, which continues with the files that are missing"
    cause: BaseException | None = error
    while cause is not None:
        client = type(cause).__module__.partition(".")[0] in CLIENTS
        if client or isinstance(cause, ConnectionError | TimeoutError):
            absent = "" if write else ", and it is not in the cache"
            return f"{where} cannot be reached ({reason(cause)}){absent}"
        cause = cause.__cause__
    return reason(error) if isinstance(error, errors.EntryNotFoundError | OSError) else None


def _bars(report: Callable[[int], None]) -> type:
    """A class of progress bars as tqdm's, which report bytes; bars that count files say nothing.

    Of several bars of bytes, which count what is received and what is written, the one that is ahead counts.
    """
    lock, furthest = threading.RLock(), 0

    class Bar:
        """One bar; methods that only change what is shown do nothing."""

        _lock = lock

        def __init__(self, iterable: Iterable[object] = (), *_: object, **options: object) -> None:
            self.iterable, self.unit = iterable, options.get("unit", "it")
            self.n, self.total = 0, options.get("total")
            self.format_dict: dict[str, object] = {}

        @classmethod
        def get_lock(cls) -> object:
            return lock

        @classmethod
        def set_lock(cls, _: object) -> None: ...

        def update(self, n: int | float | None = 1) -> None:
            nonlocal furthest
            with lock:
                self.n += int(n or 0)
                if self.unit == "B" and self.n > furthest:
                    furthest = self.n
                    report(furthest)

        def __iter__(self) -> Iterator[object]:
            for item in self.iterable:
                yield item
                self.update()

        def __enter__(self) -> "Bar":
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

        def show(self, *_: object, **__: object) -> None: ...

        close = refresh = clear = reset = show
        set_description = set_description_str = set_postfix = set_postfix_str = show

    return Bar
