"""Start, stop, resume and use trainings: one process at a time, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.serve.config import Serve
from unveil.serve.models import Described, Models
from unveil.serve.refusal import Refused
from unveil.serve.trainings.data import UNPACKED, Entry, entries_of, store, usual
from unveil.serve.trainings.recipes import DATA, Recipe, Value, check, recipes, words_of
from unveil.serve.trainings.state import (
    LOG,
    curve_of,
    last_words,
    notes_of,
    records_of,
    remaining,
    samples_of,
    saved_step,
    write_notes,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
MOST_RUNS = 1000  # folders that this server makes
LARGEST_MAP = 10_000  # characters
PATIENCE = 60.0  # seconds for a training to save when the server stops
STOPPED = (
    "stopped",
    "stopping",
    "interrupted",
    "KeyboardInterrupt",
)  # how the last words of a training that was stopped begin
State = Literal["running", "stopping", "done", "stopped", "failed"]


class Trainings:
    """The trainings of a server; their state is that of the run folders and of the processes.

    Raises:
        UnveilError: data that do not exist.
    """

    def __init__(self, settings: Serve, models: Models) -> None:
        self.settings, self.models, self.folder = settings, models, Path(settings.runs)
        self.entries: dict[str, Entry] = entries_of(settings.data)
        self._process: subprocess.Popen[bytes] | None = None
        self._name, self._stopping = "", ""
        self._recipes: dict[str, Recipe] = {}
        self._lock = threading.Lock()

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes by name."""
        if not self._recipes:
            self._recipes = recipes()
        return self._recipes

    def names(self) -> list[str]:
        """The runs that a server started in the folder, the newest first."""
        if not self.folder.is_dir():
            return []
        found = [(notes_of(run).get("began", 0.0), run.name) for run in self.folder.iterdir() if run.is_dir()]
        return [name for began, name in sorted(found, reverse=True) if began]

    def find(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            Refused: there is none of that name.
        """
        if not NAME.fullmatch(name) or not notes_of(self.folder / name):
            raise Refused(404, "there is no such training")
        return self.folder / name

    def running(self) -> str:
        """The name of the run that is being trained; "": none."""
        if self._process is not None and self._process.poll() is None:
            return self._name
        return next((name for name in self.names() if self._trains(name)), "")

    def _trains(self, name: str) -> bool:
        own = self._process is not None and self._process.poll() is None and self._name == name
        return own or _alive(self.folder / name)

    def start(
        self,
        recipe: Recipe,
        preset: str,
        values: Mapping[str, Value],
        name: str = "",
        upload: bytes = b"",
        drawn: str = "",
    ) -> str:
        """Start a training.

        Args:
            values: settings by name; of data and models the ids.
            name: name of the run; "": recipe, preset and a number.
            upload: a file for `data`.
            drawn: the map of a maze.
        Returns:
            The name of the run.
        Raises:
            Refused, UnveilError, ValueError: one is running, or what cannot be followed.
        """
        with self._lock:
            self._check_free()
            name = self._new_name(name or f"{recipe.name}-{preset}", bool(name))
            run = self.folder / name
            places = self._places(recipe, values, bool(upload))
            fixed: dict[str, Value] = {"out": str(run), "device": self.settings.device}
            fixed["threads"] = self.settings.threads
            check(recipe, words_of(recipe, preset, places | fixed))
            run.mkdir(parents=True)
            try:
                if upload:
                    most = UNPACKED * self.settings.limits.upload * 2**20
                    places["data"] = str(store(upload, run / "uploaded", recipe.name, most))
                if drawn:
                    places["maze"] = str(_map_file(run, drawn))
                words = words_of(recipe, preset, places | fixed)
                steps = check(recipe, words)
            except Exception:
                shutil.rmtree(run)  # made above
                raise
            notes: JsonObject = {"recipe": recipe.name, "preset": preset, "words": words, "steps": steps}
            self._run(run, notes | {"began": time.time()}, [])
            return name

    def _check_free(self) -> None:
        if not self.settings.limits.trainings:
            raise Refused(403, "this server trains nothing; its owner allows it by `--trainings 1`")
        if busy := self.running():
            raise Refused(409, f"{busy} is being trained; stop it first, or wait")

    def _new_name(self, name: str, given: bool) -> str:
        if not NAME.fullmatch(name):
            raise Refused(400, "`name`: at most 40 letters, digits, - and _, the first a letter or a digit")
        taken = {path.name.lower() for path in self.folder.iterdir()} if self.folder.is_dir() else set[str]()
        if len(taken) >= MOST_RUNS:
            raise Refused(400, f"there are {MOST_RUNS} runs in {self.folder}; remove some of these folders")
        if given:
            if name.lower() in taken:
                raise Refused(400, f"`name`: there is a run named {name} already; take another")
            return name
        return next(new for k in range(1, MOST_RUNS + 2) if (new := f"{name}-{k}").lower() not in taken)

    def _places(self, recipe: Recipe, values: Mapping[str, Value], upload: bool) -> dict[str, Value]:
        """The values, with places instead of ids.

        Raises:
            Refused: an unknown id, or no data.
        """
        places = dict(values)
        for setting in recipe.settings:
            value = values.get(setting.name)
            if setting.kind == "data" and value is not None:
                entry = self.entries.get(str(value))
                if entry is None or recipe.name not in entry.recipes:
                    raise Refused(400, f"`{setting.name}`: no data of that id; see /api/recipes")
                places[setting.name] = entry.place
            elif setting.kind == "model" and value is not None:
                places[setting.name] = self._base(str(value), setting.choices[0])
            elif setting.kind == "map" and value is not None and value not in setting.choices:
                raise Refused(400, f"`{setting.name}`: one of {', '.join(setting.choices)}, or a drawn `map`")
            elif setting.kind == "choice" and value is not None and value not in setting.choices:
                raise Refused(400, f"`{setting.name}`: one of {', '.join(setting.choices)}")
        if upload and "data" in values:
            raise Refused(400, "give `data` or `upload`, not both")
        if not upload and not {*DATA, "data"} & values.keys() and not usual(recipe.name):
            raise Refused(400, "no data: upload a file, or start the server with `--data` and name its id")
        return places

    def _base(self, name: str, kind: str) -> str:
        model = self.models.described.get(name)
        if model is None or model.kind != kind:
            raise Refused(404, f"there is no model of {kind} named {name[:80]!r}")
        return model.place

    def _run(self, run: Path, notes: JsonObject, more: list[str]) -> None:
        """Start the process, in a session of its own: Ctrl-C in the terminal reaches the server alone."""
        command = [sys.executable, "-P", "-m", "unveil.cli", "train", notes["recipe"], *notes["words"], *more]
        with open(run / LOG, "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._name, self._stopping = run.name, ""
        write_notes(run, notes | {"pid": self._process.pid})

    def stop(self, name: str) -> None:
        """Interrupt a training, which saves first; a training that does not run stays as it is."""
        run = self.find(name)
        with self._lock:
            if not self._trains(name) or self._stopping == name:
                return
            self._stopping = name
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(notes_of(run)["pid"]), signal.SIGINT)

    def resume(self, name: str, steps: int | None = None) -> None:
        """Go on with a training.

        Args:
            steps: new number of steps; None: as before.
        Raises:
            Refused, UnveilError, ValueError: another one is running, or all steps are done.
        """
        run = self.find(name)
        with self._lock:
            self._check_free()
            notes = notes_of(run)
            words = [str(word) for word in notes["words"]]
            if steps is not None:
                words = [*(word for word in words if not word.startswith("--steps=")), f"--steps={steps}"]
            count = check(self.recipes[notes["recipe"]], words)
            if (saved := saved_step(run)) >= count:
                raise Refused(400, f"all {saved} steps are done; give more `steps` to go on")
            self._run(run, notes | {"words": words, "steps": count}, ["--resume"])

    def use(self, name: str) -> Described:
        """Serve the newest checkpoint of a run as a model.

        Raises:
            Refused: there is no checkpoint yet.
            UnveilError: it is of a kind that no tab shows.
        """
        run = self.find(name)
        if not saved_step(run):
            raise Refused(409, "there is no checkpoint yet; wait for the first, or stop the training")
        model = self.models.add(str(run))
        with self._lock:
            write_notes(run, notes_of(run) | {"used": True})
        return model

    def restore(self) -> None:
        """Serve the runs again that were used before the server stopped."""
        for name in self.names()[::-1]:
            if notes_of(self.folder / name).get("used"):
                with contextlib.suppress(UnveilError, ValueError, OSError):
                    self.models.add(str(self.folder / name))

    def close(self) -> None:
        """Interrupt the training that runs, and wait until it has saved."""
        if self._process is None or self._process.poll() is not None:
            return
        self.stop(self._name)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.terminate()  # which exits at once, since it was interrupted before

    def summary(self, name: str) -> JsonObject:
        """A run in a line."""
        run = self.folder / name
        notes, saved = notes_of(run), saved_step(run)
        used = next((one.id for one in self.models.described.values() if one.place == str(run)), "")
        state = self._state(run, saved, int(notes["steps"]))
        shown: JsonObject = {name: notes[name] for name in ("recipe", "preset", "steps", "began")}
        return {"id": name, "state": state, "saved": saved, "model": used} | shown

    def describe(self, name: str) -> JsonObject:
        """A run with its curve, samples, and the last words of its process."""
        run = self.find(name)
        records, shown = records_of(run), self.summary(name)
        step = max(shown["saved"], records[-1]["step"] if records else 0)
        seconds = remaining(records, step, shown["steps"]) if shown["state"] == "running" else None
        return shown | {
            "step": step,
            "seconds": seconds,
            "curve": curve_of(records),
            "samples": [{"step": it.step, "kind": it.file.suffix[1:]} for it in samples_of(run)],
            "message": last_words(run),
            "command": ["unveil", "train", shown["recipe"], *notes_of(run)["words"]],
        }

    def _state(self, run: Path, saved: int, steps: int) -> State:
        if self._trains(run.name):
            return "stopping" if self._stopping == run.name else "running"
        if saved >= steps:
            return "done"
        said = last_words(run).removeprefix("unveil: ")
        return "stopped" if said.startswith(STOPPED) else "failed"


def _map_file(run: Path, drawn: str) -> Path:
    """The map of a maze as a file in the run folder.

    Raises:
        Refused: it is too large.
        ValueError: it is no maze.
    """
    from unveil.planning.recipes.maze.load import find_layout

    if len(drawn) > LARGEST_MAP:
        raise Refused(400, f"`map` has more than {LARGEST_MAP} characters")
    file = run / f"{run.name}-map.txt"
    file.write_text(drawn, encoding="utf-8")
    find_layout(str(file))
    return file


def _alive(run: Path) -> bool:
    """Whether a process of an earlier server still trains in a folder."""
    import fcntl

    pid = notes_of(run).get("pid", 0)
    try:
        os.kill(pid, 0)
        with open(run / ".lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, TypeError, OverflowError):
        return False
    return False
