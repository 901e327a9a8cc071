"""How every reader of files ends on malformed ones: at least 2,000 a reader, each made of a valid file by a seeded generator.

    python benchmarks/robustness.py                            # all readers; benchmarks/results/robustness.json, minutes on one core
    python benchmarks/robustness.py --reader png --inputs 200  # one of them, shown only
    python benchmarks/robustness.py --reader png --index 17 --keep DIR   # one input again, its files left in DIR, with the traceback

An input ends well as a value or as a refusal: `UnveilError` or `ValueError`, one printable line of at most 1,000 characters. All else is a
fault: another exception, more than 1 GB of memory above what the process had before, more than 10 s, a crash or a hang of a library in C.
Inputs are read in a process of their own, one after another, which is killed when it does not answer; then the next goes on behind
it. A reader that is done is in the JSON, and a run that was stopped goes on there (`--fresh` begins anew).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import torch  # noqa: E402

from robustness_bytes import BOMBS, Tree, damaged, zeros  # noqa: E402
from robustness_formats import endless_parquet, wide_parquet  # noqa: E402
from robustness_readers import READERS, Reader, Source, kind_of, signed  # noqa: E402
from unveil.errors import UnveilError  # noqa: E402
from unveil.files.atomic import replacing  # noqa: E402
from unveil.runs.machine import commit, machine  # noqa: E402

RESULT = HERE / "results" / "robustness.json"
INPUTS, SEED = 2000, 0
LARGEST, LONGEST, LONGEST_LINE = 10**9, 10.0, 1000
HARD = 4 * 2**30  # bytes of address space above the beginning, beyond which allocations fail
PATIENCE = 20.0  # seconds without an answer after which a process is killed: making an input counts, too
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # in memory, so that no disk is waited for
PACKAGES = (
    "unveil",
    "torch",
    "numpy",
    "safetensors",
    "h5py",
    "zarr",
    "numcodecs",
    "pyarrow",
    "pillow",
    "tokenizers",
    "imageio-ffmpeg",
)


@dataclass(frozen=True)
class Outcome:
    """How one input ended.

    Args:
        kind: value, refusal or fault.
        what: the line, or what is wrong.
        grown: bytes of memory at most, above those before.
    """

    index: int
    kind: str
    what: str = ""
    seconds: float = 0.0
    grown: int = 0


def malformed(name: str, reader: Reader, sources: list[Source], seed: int, index: int) -> tuple[Tree, Source]:
    """Input number `index` of a reader, and the valid source that it is made of."""
    rng = random.Random(f"{name}/{seed}/{index}")
    source = sources[index % len(sources)]
    tree = damaged(source.files, kind_of, rng)
    return (signed(tree) if reader.signed and rng.random() < 0.6 else tree), source


def write(tree: Tree, root: Path) -> None:
    """The files of an input into an empty folder; a name that is a folder of another stays away."""
    for name, data in tree.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_dir():
            file.write_bytes(data)


def verdict(error: BaseException, root: Path) -> tuple[str, str]:
    """What an exception counts as, and the line without the scratch folder."""
    line = str(error)
    if not isinstance(error, UnveilError | ValueError) or isinstance(error, UnicodeError):
        trace = traceback.extract_tb(error.__traceback__)
        ours = next(
            (
                f"{Path(f.filename).name}:{f.lineno}"
                for f in reversed(trace)
                if "unveil" in Path(f.filename).parts
            ),
            "?",
        )
        return "fault", f"{type(error).__name__} at {ours}: {line[:160]}"
    line = line.replace(str(root), "")
    if not line or not line.isprintable() or len(line) > LONGEST_LINE:
        return "fault", f"not one printable line of at most {LONGEST_LINE} characters: {line[:160]!r}"
    return "refusal", line


def tried(read: Any, root: Path, index: int) -> Outcome:
    """Read one input that lies in `root`."""
    before = _memory()
    began = time.perf_counter()
    kind, what = "value", ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(root)
    except BaseException as error:  # Rust's panics are no Exception
        kind, what = verdict(error, root)
    seconds = time.perf_counter() - began
    grown = max(0, _memory(peak=True) - before)
    if kind != "fault" and grown > LARGEST:
        kind, what = "fault", f"{grown / 1e9:.1f} GB of memory ({kind})"
    if kind != "fault" and seconds > LONGEST:
        kind, what = "fault", f"{seconds:.0f} s ({kind})"
    return Outcome(index, kind, what, seconds, grown)


def _memory(peak: bool = False) -> int:
    """Resident bytes of this process now, from when on the peak is counted anew; or that peak."""
    name = "VmHWM:" if peak else "VmRSS:"
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))


def _work(name: str, sources: list[Source], seed: int, first: int, last: int, answers: Any) -> None:
    """Inputs first .. last - 1 of a reader, each answered with its outcome."""
    size = next(
        1024 * int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmSize:")
    )
    resource.setrlimit(resource.RLIMIT_AS, (size + HARD, size + HARD))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    for index in range(first, last):
        with tempfile.TemporaryDirectory(prefix="robust-", dir=SCRATCH) as folder:
            root = Path(folder)
            tree, source = malformed(name, READERS[name], sources, seed, index)
            write(tree, root)
            answers.send(tried(source.read, root, index))


def outcomes(name: str, sources: list[Source], seed: int, count: int) -> Iterator[Outcome]:
    """The outcomes of all inputs of a reader, whatever becomes of the processes that read them."""
    for megabytes in BOMBS:
        zeros(megabytes)  # made once, before the processes that are watched
    if columns := READERS[name].columns:
        endless_parquet(columns), wide_parquet(columns)
    fork, index = multiprocessing.get_context("fork"), 0
    while index < count:
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=_work, args=(name, sources, seed, index, count, there))
        process.start()
        there.close()
        while index < count:
            try:
                outcome = here.recv() if here.poll(PATIENCE) else None
            except EOFError:
                process.join()
                outcome = Outcome(index, "fault", f"the process ended with {process.exitcode}")
            if outcome is None:
                process.kill()
                outcome = Outcome(index, "fault", f"no answer in {PATIENCE:.0f} s", PATIENCE)
            yield outcome
            index += 1
            if outcome.kind == "fault" and outcome.seconds in (0.0, PATIENCE):
                break  # that process is no more
        process.join()


@contextmanager
def valid(name: str) -> Generator[list[Source]]:
    """The valid sources of a reader; the first gives a value, others may be refused for what they are, such as CMYK.

    Raises:
        AssertionError: one is a fault.
    """
    with tempfile.TemporaryDirectory(prefix="robust-", dir=SCRATCH) as folder:
        (Path(folder) / "made").mkdir()
        sources = READERS[name].sources(Path(folder) / "made")
        for number, source in enumerate(sources):
            root = Path(folder) / f"valid-{number}"
            root.mkdir()
            write(source.files, root)
            outcome = tried(source.read, root, number)
            assert outcome.kind == "value" or (number and outcome.kind == "refusal"), (
                f"{name}: valid source {number} ends as {outcome}"
            )
            rmtree(root)
        yield sources


def measured(name: str, seed: int, count: int) -> dict[str, Any]:
    """The row of a reader."""
    began = time.perf_counter()
    with valid(name) as sources:
        made = list(outcomes(name, sources, seed, count))
    faults = [{"index": o.index, "what": o.what} for o in made if o.kind == "fault"]
    kinds = {kind: sum(o.kind == kind for o in made) for kind in ("value", "refusal")}
    return {
        "sources": len(sources),
        "inputs": len(made),
        "values": kinds["value"],
        "refusals": kinds["refusal"],
        "faults": faults,
        "largest_mb": round(max(o.grown for o in made) / 1e6, 1),
        "longest_seconds": round(max(o.seconds for o in made), 2),
        "median_ms": round(1e3 * sorted(o.seconds for o in made)[len(made) // 2], 2),
        "seconds": round(time.perf_counter() - began, 1),
    }


def shown(name: str, row: dict[str, Any]) -> str:
    """A row for people, and a line a kind of fault."""
    kinds: dict[str, list[int]] = {}
    for fault in row["faults"]:
        kinds.setdefault(fault["what"][:110], []).append(fault["index"])
    told = "".join(
        f"    {len(where):4} x {what}   (index {where[0]})\n"
        for what, where in sorted(kinds.items(), key=lambda k: -len(k[1]))
    )
    counts = f"{row['values']:5} values {row['refusals']:5} refusals {len(row['faults']):4} faults"
    return f"{name:<30}{counts}   {row['largest_mb']:7.1f} MB {row['longest_seconds']:6.2f} s   {row['seconds']:5.0f} s in all\n{told}"


def again(name: str, seed: int, index: int, keep: Path) -> None:
    """One input in this process, its files left behind."""
    with valid(name) as sources:
        tree, source = malformed(name, READERS[name], sources, seed, index)
        keep.mkdir(parents=True)
        write(tree, keep)
        print(tried(source.read, keep, index))
        print(source.read(keep))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reader", action="append", choices=list(READERS), help="by default all of them")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="for each reader")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--index", type=int, help="this input alone, in this process")
    parser.add_argument("--keep", type=Path, default=Path("malformed"), help="a new folder for it")
    parser.add_argument("--fresh", action="store_true", help="readers that are done are done again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.index is not None:
        again(options.reader[0], options.seed, options.index, options.keep)
        return
    same = {"seed": options.seed, "inputs": options.inputs, "commit": commit()}
    if options.reader:
        for name in options.reader:
            print(shown(name, measured(name, options.seed, options.inputs)), end="", flush=True)
        return
    limits = {"largest_mb": LARGEST / 1e6, "longest_seconds": LONGEST, "longest_line": LONGEST_LINE}
    before = json.loads(RESULT.read_text()) if RESULT.is_file() and not options.fresh else {}
    alike = all(
        str(before.get(k)).rstrip("+") == str(v).rstrip("+") for k, v in same.items()
    )  # "+": the result itself is not committed yet
    rows: dict[str, Any] = before["readers"] if alike else {}
    same["commit"] = before["commit"] if alike else same["commit"]
    for name in READERS:
        if name not in rows:
            rows[name] = measured(name, options.seed, options.inputs)
            result = {
                **same,
                "limits": limits,
                **machine("cpu"),
                "versions": {p: version(p) for p in PACKAGES},
            }
            result |= {
                "minutes": round(sum(row["seconds"] for row in rows.values()) / 60, 1),
                "readers": rows,
            }
            with replacing(RESULT) as partial:
                partial.write_text(json.dumps(result, indent=1) + "\n")
        print(shown(name, rows[name]), end="", flush=True)


if __name__ == "__main__":
    main()
