"""The command line: verbs, help in a blink, one-line errors. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from unveil.commands import weights
from unveil.errors import UnveilError, one_line
from unveil.runs.progress import shown_progress
from unveil.runs.record import check_json, record_of, write, write_json
from unveil.text.recipes import config as text
from unveil.verbs import EVALUATED, SAMPLED, TRAINED, fitted, given, joined, next_step, spelled, wired

VERBS = {
    "demo": "packaged weights at work: a maze, or unveil demo pusht, text, image",
    "data": "generate data sets                   unveil data maze --maze large --steps 1000000",
    "train": "train a model                        unveil train maze --maze large --preset tiny",
    "eval": "score a model beside its references  unveil eval maze --checkpoint maze-large --json -",
    "sample": "plan, write text, make images        unveil sample maze --start 1,1 --goal 7,9",
    "chat": "talk to a fine-tuned text model      unveil chat --checkpoint runs/chat",
    "results": "list runs, scores of evaluations     unveil results logs --latex table.tex",
    "weights": "list, pull, inspect, convert, pack   unveil weights convert DIR OUT",
    "doctor": "what this machine has, for bug reports",
}
DEBUG = "--debug"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 for a mistake that the user can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG in arguments
    arguments = [a for a in arguments if a != DEBUG]
    try:
        return _run(arguments)
    except KeyboardInterrupt as stop:
        print(f"\nunveil: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (UnveilError, ValueError, TypeError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"unveil: {_one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if debug:
            raise
        print(f"unveil: internal error, {type(error).__name__}: {_one_line(error)} (--debug shows where)", file=sys.stderr)
        return 2


def _one_line(error: BaseException) -> str:
    if isinstance(error, ImportError):
        missing = (error.name or "").partition(".")[0]
        extra = "pusht" if missing in ("gym_pusht", "pymunk", "pygame", "zarr", "pyarrow") else "image" if missing == "PIL" else "maze"
        return f"{one_line(str(error))}; install what is missing with: pip install 'unveil[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename or ''}: {error.strerror}".lstrip(": "))
    return one_line(str(error)).strip() or type(error).__name__


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] in ("--version", "-V"):
        from importlib.metadata import version

        print(f"unveil {version('unveil')}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb.startswith("-"):
        raise UnveilError(f"unknown flag {verb}{_did_you_mean(verb, ['--help', '--version', DEBUG])}")
    if verb not in VERBS:
        raise UnveilError(f"unknown verb {verb!r}{_did_you_mean(verb, VERBS)}; verbs: {', '.join(VERBS)}")
    return _VERB_RUNS[verb](rest)


def _overview() -> str:
    lines = "\n".join(f"  {name:<8} {text}" for name, text in VERBS.items())
    return (
        "unveil: behaviour, images and text by undoing corruption\n\n"
        f"usage: unveil VERB [RECIPE] [FLAGS]\n\n{lines}\n\n"
        "Every verb explains itself: unveil train maze --help\n"
        "Errors are one line; --debug shows where they came from."
    )


def _did_you_mean(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def _recipe(verb: str, rest: list[str], known: Sequence[str]) -> tuple[str, list[str]]:
    if not rest or (rest[0].startswith("-") and rest[0] not in ("-h", "--help")):
        raise UnveilError(f"{verb} what? The recipe comes next: unveil {verb} {known[0]} ...; recipes: {', '.join(known)}")
    if rest[0] in ("-h", "--help"):
        return known[0], ["--help"]
    if rest[0] not in known:
        raise UnveilError(f"unknown recipe {rest[0]!r}{_did_you_mean(rest[0], known)}; recipes: {', '.join(known)}")
    return rest[0], rest[1:]


def parse(config: type, rest: list[str], command: str, default: Any = None, required: bool = False) -> Any:
    """The config that flags describe.

    Raises:
        UnveilError: an unknown flag (with a suggestion), or a value that does not fit.
    """
    import tyro

    help_ = any(a in ("-h", "--help") for a in rest)
    shown = io.StringIO()
    try:
        with contextlib.nullcontext() if help_ else contextlib.redirect_stderr(shown), contextlib.redirect_stdout(sys.stdout):
            parsed, unknown = tyro.cli(
                config,
                args=rest,
                prog=f"unveil {command}",
                default=(None if required else config()) if default is None else default,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        text = re.sub(r"[│╭╮╰╯─┃━]+|-{4,}|\x1b\[[0-9;]*m", " ", shown.getvalue())
        message = " ".join(text.split()).split("For full helptext")[0]
        message = (
            re.sub(r"^(Value error|Missing argument|Error parsing [^:]*:)\s*", "", message.split("Argument helptext")[0]).strip()
            or "the flags do not fit"
        )
        raise UnveilError(f"{message}; see unveil {command} --help") from None
    flags = ["--" + f.name.replace("_", "-") for f in fields(config)]
    stray = [a for a in unknown if a.startswith("-")] or list(unknown)
    if stray:
        name = stray[0].split("=")[0]
        kind = "unknown flag" if name.startswith("-") else "unexpected word"
        raise UnveilError(f"{kind} {name}{_did_you_mean(name, flags) if name.startswith('-') else ''}; see unveil {command} --help")
    if (threads := getattr(parsed, "threads", 0)) < 0:
        raise UnveilError(f"--threads must be at least 0, which lets torch decide, got {threads}")
    return parsed


def _out(text: str, json_target: str | None = None) -> None:
    """For people; when JSON goes to standard output, people read standard error."""
    print(text, file=sys.stderr if json_target == "-" else sys.stdout)


def _demo(rest: list[str]) -> int:
    from unveil.image.recipes import demo as demo_image
    from unveil.planning.recipes.maze import demo
    from unveil.policy.recipes.pusht import demo as demo_pusht

    recipe, rest = _recipe("demo", rest, ["maze", "pusht", "text", "image"]) if rest and not rest[0].startswith("-") else ("maze", rest)
    described, run = {
        "maze": (demo.Demo, demo.run_demo),
        "pusht": (demo_pusht.DemoPushT, demo_pusht.run_demo_pusht),
        "text": (text.DemoText, lambda *given: wired("text.recipes.demo:run_demo_text")(*given)),
        "image": (demo_image.DemoImage, demo_image.run_demo_image),
    }[recipe]
    config = parse(described, rest, "demo" if recipe == "maze" else f"demo {recipe}")
    with shown_progress() as progress:
        summary = run(config, progress)
    print(summary)
    return 0


def _data(rest: list[str]) -> int:
    from unveil.planning.recipes.locomotion import data as locomotion_data
    from unveil.planning.recipes.maze import data as maze_data
    from unveil.policy.recipes.pusht import data as pusht_data

    recipe, rest = _recipe("data", rest, ["maze", "locomotion", "pusht", "text"])
    described, make = {
        "maze": (maze_data.DataMaze, maze_data.make_data),
        "locomotion": (locomotion_data.DataLocomotion, locomotion_data.make_locomotion_data),
        "pusht": (pusht_data.DataPushT, pusht_data.make_pusht_data),
        "text": (text.DataText, lambda *given: wired("text.recipes.data:make_text_data")(*given)),
    }[recipe]
    config = parse(described, rest, f"data {recipe}")
    check_json(config.json)
    with shown_progress() as progress:
        result = make(config, progress)
    write_json(config.json, record_of(f"data {recipe}", config, result))
    _out(result["summary"], config.json)
    return 0


def _preset(rest: list[str], presets: dict[str, Any]) -> Any:
    """The config that the other flags change."""
    name = given(rest, "--preset", "default")
    if name not in presets:
        raise UnveilError(f"unknown preset {name!r}{_did_you_mean(name, presets)}; presets: {', '.join(presets)}")
    return fitted(presets[name], rest)


def _train(rest: list[str]) -> int:
    recipe, rest = _recipe("train", rest, list(TRAINED))
    presets, place, after = TRAINED[recipe]
    default = _preset(rest, presets)
    config = parse(type(default), rest, f"train {recipe}", default)
    with shown_progress() as progress:
        run = wired(place)(config, progress)
    print(f"trained: {run}\nnext: {next_step(after, config, run)}")
    return 0


def _eval(rest: list[str]) -> int:
    from time import perf_counter

    recipe, rest = _recipe("eval", rest, list(EVALUATED))
    presets, place = EVALUATED[recipe]
    default = _preset(rest, presets) if len(presets) > 1 else presets["default"]
    config = parse(type(default), rest, f"eval {recipe}", default)
    if recipe == "locomotion":  # what is planned with by default follows from what the run is
        valued = any(given(rest, f"--{name}", "none") != "none" for name in ("guidance", "select", "value-loadpath", "value-epoch"))
        default = wired("planning.recipes.locomotion.preset:with_preset")(config, given(rest, "--preset", ""), valued)
        config = parse(type(default), rest, f"eval {recipe}", default)
    check_json(config.json)
    began = perf_counter()
    with shown_progress() as progress:
        result: dict[str, Any] = wired(place)(config, progress)
    record = result.pop("record", None)
    result = {"checkpoint": getattr(config, "checkpoint", None)} | result
    result = record_of(recipe, config, result) | {"seconds": perf_counter() - began}
    write_json(config.json or record, result)
    from unveil.runs.tables import metrics_table

    _out(metrics_table(result), config.json)
    return 0


def _sample(rest: list[str]) -> int:
    recipe, rest = _recipe("sample", rest, list(SAMPLED))
    described, place = SAMPLED[recipe]
    config = parse(described, spelled(recipe, rest), f"sample {recipe}")
    check_json(config.json)
    result = wired(place)(config)
    write_json(config.json, result)
    _out(result["summary"], config.json)
    return 0


def _chat(rest: list[str]) -> int:
    config = parse(text.ChatText, rest, "chat")
    check_json(config.json)
    if config.prompt:
        result = wired("text.recipes.chat:answer_prompts")(config)
        write_json(config.json, result)
        _out(result["summary"], config.json)
        return 0
    if config.json is not None:
        raise UnveilError("--json needs --prompt: what is typed is answered on the screen")
    wired("text.recipes.chat:converse")(config, _typed(), print)
    return 0


def _typed() -> Iterator[str]:
    """Lines until an empty one or the end of input; bytes of another encoding become the replacement character."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if not line:
            return
        yield line


def _results(rest: list[str]) -> int:
    from unveil.commands.results import Results, read_results

    config = parse(Results, rest, "results")
    check_json(config.json)
    found = read_results(config)
    print("".join(f"unveil: {line}\n" for line in found.skipped), end="", file=sys.stderr)
    _out(found.summary, "-" if "-" in (config.json, config.csv, config.markdown, config.latex) else None)
    for target, written in found.files:
        write(target, written)
    if config.json is not None:
        write_json(config.json, record_of("results", config, found.numbers))
    return 0


def _weights(rest: list[str]) -> int:
    from unveil.commands import pack

    if rest and rest[0] == "pack":
        print(pack.pack(parse(pack.Pack, rest[1:], "weights pack", required=True)))
        return 0
    if rest and rest[0] in ("inspect", "convert"):
        kind, run = (weights.Inspect, weights.inspect) if rest[0] == "inspect" else (weights.Convert, weights.convert)
        print(run(parse(kind, joined(rest[1:], "--flags"), f"weights {rest[0]}", required=True)))
        return 0
    if rest and rest[0] == "pull":
        from unveil.commands.pull import Pull, pull

        config = parse(Pull, rest[1:], "weights pull", required=True)
        with shown_progress() as progress:
            done = pull(config, progress)
        print(done)
        return 0
    if {"-h", "--help"} & set(rest):
        print(_WEIGHTS_HELP)
        return 0
    if rest:
        raise UnveilError(
            f"unexpected {rest[0]}{_did_you_mean(rest[0], ['pack', 'inspect', 'convert', 'pull'])}; see unveil weights --help"
        )
    print(weights.listing())
    return 0


def _doctor(rest: list[str]) -> int:
    if {"-h", "--help"} & set(rest):
        print("usage: unveil doctor\n\nPrints versions, devices and folders; paste it into bug reports.\nExample: unveil doctor")
        return 0
    if rest:
        raise UnveilError(f"unexpected {rest[0]}; usage: unveil doctor")
    from unveil.commands.doctor import report

    print(report())
    return 0


_WEIGHTS_HELP = """usage: unveil weights [pack FLAGS | inspect DIR | convert DIR OUT | pull NAME]

Lists the packaged weights; `unveil weights pack --help` makes new ones. `inspect` and `convert` read the checkpoints of jannerm/diffuser,
real-stanford/diffusion_policy, LeRobot, diffusers (UNet2DModel), openai's image models and denoising-diffusion-pytorch, `inspect` LLaDA's
folders, too; `pull` downloads public ones: diffuser-locomotion, diffuser-maze2d, diffuser-kuka.
Example: unveil weights"""

_VERB_RUNS: dict[str, Callable[[list[str]], int]] = {
    "demo": _demo,
    "data": _data,
    "train": _train,
    "eval": _eval,
    "sample": _sample,
    "chat": _chat,
    "results": _results,
    "weights": _weights,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
