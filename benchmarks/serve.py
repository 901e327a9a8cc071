"""The server beside the library: its start, its overhead, and fifty jobs of which three go wrong.

On an idle machine: `python benchmarks/serve.py`, about four minutes on two cores. `results/serve.json`:

- `start`: seconds from the start of the process to the first byte of the page, to the first answer of /api/models, and to the first picture
  (a prompt, the server's first model, 20 steps), the median of `--starts` starts; the operating system's cache is warm.
- `overhead`: the same pictures by /api/images (with progress, previews and the download of the PNG files) and by `unveil.generate` in this
  process with as many threads, in turns; the ratio of the medians. Pictures are compared bit for bit.
- `fifty`: 50 queued jobs; one is cancelled, one fails, the client of one leaves. How many of the others equal the library's, and how long it took.
"""

import argparse
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

RESULT = Path(__file__).resolve().parent / "results" / "serve.json"
MODEL, PROMPT = "emoji-text", "a red heart"


def ask(port: int, method: str, path: str, body: object = None) -> bytes:
    """The body of an answer; refusals are errors."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{path}: {answer.status} {data[:200]!r}")
        return data
    finally:
        connection.close()


def ended(port: int, name: str) -> dict[str, object]:
    """A job when it has ended, by its events."""
    return json.loads(ask(port, "GET", f"/api/jobs/{name}/events").decode().strip().rpartition("data: ")[2])


def pictures(port: int, asked: dict[str, object]) -> list[bytes]:
    """The PNG files of a job."""
    name = json.loads(ask(port, "POST", "/api/images", asked))["id"]
    job = ended(port, name)
    if job["state"] != "done":
        raise RuntimeError(str(job["error"]))
    return [ask(port, "GET", f"/api/jobs/{name}/images/{k}") for k in range(int(str(job["images"])))]


@contextmanager
def server(threads: int) -> Iterator[tuple[int, float]]:
    """A server in a process of its own: its port, and when it was started."""
    command = [
        sys.executable,
        "-m",
        "unveil.cli",
        "serve",
        "--port",
        "0",
        "--device",
        "cpu",
        "--threads",
        str(threads),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r":(\d+)/", process.stdout.readline())
        if match is None:
            raise RuntimeError("the server did not start")
        yield int(match[1]), began
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def start(threads: int) -> dict[str, float]:
    """Seconds of one start."""
    with server(threads) as (port, began):
        ask(port, "GET", "/")
        page = time.perf_counter() - began
        ask(port, "GET", "/api/models")
        models = time.perf_counter() - began
        pictures(port, {"checkpoint": MODEL, "prompt": [PROMPT], "steps": 20, "seed": 1})
        return {"page": page, "models": models, "picture": time.perf_counter() - began}


def of_library(model: object, count: int, steps: int, seed: int) -> object:
    """The pixels of the same pictures."""
    import unveil
    from unveil.image.generation import Given

    settings = unveil.ImageSettings(steps=steps, scale=3.0)
    return unveil.generate(
        model, None, count, settings, seed, given=Given(prompts=[PROMPT] * count)
    ).pixels.numpy()


def read(file: bytes) -> object:
    """(C, H, W) of a PNG."""
    import numpy as np
    from PIL import Image

    array = np.asarray(Image.open(io.BytesIO(file)))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def overhead(port: int, count: int, steps: int, turns: int) -> dict[str, object]:
    """Seconds of a job by the server and by the library, in turns."""
    import numpy as np

    import unveil

    model = unveil.load(MODEL, "cpu")
    of_library(model, count, steps, 0)
    asked = {"checkpoint": MODEL, "prompt": [PROMPT], "steps": steps, "scale": 3.0, "n": count}
    pictures(port, asked | {"seed": 0})
    served: list[float] = []
    library: list[float] = []
    equal = True
    for turn in range(turns):
        for kind in ("server", "library") if turn % 2 == 0 else ("library", "server"):
            began = time.perf_counter()
            if kind == "server":
                files = pictures(port, asked | {"seed": turn})
                served.append(time.perf_counter() - began)
            else:
                pixels = of_library(model, count, steps, turn)
                library.append(time.perf_counter() - began)
        equal &= bool(np.array_equal(np.stack([read(file) for file in files]), pixels))
    medians = statistics.median(served), statistics.median(library)
    pairs = [a / b for a, b in zip(served, library, strict=True)]
    return {
        "images": count,
        "steps": steps,
        "turns": turns,
        "server_seconds": medians[0],
        "library_seconds": medians[1],
        "ratio": medians[0] / medians[1],
        "ratios": sorted(pairs),
        "equal": equal,
    }


def fifty(port: int, steps: int) -> dict[str, object]:
    """Fifty jobs, of which one is cancelled, one fails, and the client of one leaves."""
    import numpy as np

    import unveil

    began = time.perf_counter()
    names: dict[int, str] = {}
    for k in range(49):
        asked: dict[str, object] = {
            "checkpoint": MODEL,
            "prompt": [PROMPT],
            "steps": steps,
            "scale": 3.0,
            "seed": k,
        }
        if k == 20:
            asked["size"] = [30, 30]  # no multiple of the model's
        names[k] = json.loads(ask(port, "POST", "/api/images", asked))["id"]
    text = json.dumps({"prompt": PROMPT, "steps": steps})
    head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as leaving:
        leaving.sendall((head + text).encode())
        while len(json.loads(ask(port, "GET", "/api/jobs"))) < 50:
            time.sleep(0.01)
    left = json.loads(ask(port, "GET", "/api/jobs"))[-1]["id"]
    ask(port, "DELETE", f"/api/jobs/{names[40]}")
    jobs = {k: ended(port, name) for k, name in names.items()}
    seconds = time.perf_counter() - began
    states = {k: job["state"] for k, job in jobs.items()}
    model = unveil.load(MODEL, "cpu")
    right = 0
    for k, name in names.items():
        if states[k] == "done":
            file = ask(port, "GET", f"/api/jobs/{name}/images/0")
            right += bool(np.array_equal(read(file), of_library(model, 1, steps, k)[0]))
    return {
        "steps": steps,
        "seconds": seconds,
        "cancelled": states[40],
        "failed": states[20],
        "left": ended(port, left)["state"],
        "done": sum(state == "done" for state in states.values()),
        "equal_to_the_library": right,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--images", type=int, default=4, help="images per job of `overhead`")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULT)
    flags = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(flags.threads)
    starts = [start(flags.threads) for _ in range(flags.starts)]

    import torch

    from unveil.runs.machine import commit, machine

    torch.set_num_threads(flags.threads)
    with server(flags.threads) as (port, _):
        shares = overhead(port, flags.images, flags.steps, flags.turns)
        story = fifty(port, flags.steps)
    result = {
        "recipe": "serve",
        "protocol": f"{flags.threads} threads; medians; {flags.starts} starts with a warm cache of files",
        "metrics": {
            "start": {name: statistics.median(one[name] for one in starts) for name in starts[0]},
            "overhead": shares,
            "fifty": story,
        },
        "commit": commit(),
        **machine("cpu"),
    }
    flags.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["metrics"], indent=1))


if __name__ == "__main__":
    main()
