"""The command line: verbs, fast help, one-line errors. Heavy packages are imported only when a verb runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import cast

from unveil.commands.parsing import HELP, HELP_ALL, as_flags, configured, did_you_mean, parse
from unveil.errors import UnveilError, one_line
from unveil.runs.flags import flat
from unveil.runs.progress import shown_progress
from unveil.runs.record import check_json, record_of, write, write_json
from unveil.runs.verb import Verb, given_in, joined, wired
from unveil.verbs import CHAT, RECIPES, WEIGHTS, WORLDS

OVERVIEW = """unveil: generate behaviour, images and text with diffusion models

usage: unveil VERB [RECIPE] [FLAGS]

See it work
  demo     run packaged models                    unveil demo

Use a trained model
  sample   generate plans, actions, images, text  unveil sample maze --start 1,1 --goal 7,9
  chat     chat with a text model                 unveil chat --checkpoint runs/chat
  eval     evaluate a model beside references     unveil eval maze --checkpoint maze-large
  serve    all in the browser, and HTTP APIs      unveil serve --open
  export   one graph, torch.export or ONNX        unveil export pusht-keypoints policy.onnx

Train your own
  data     generate or prepare data               unveil data text --data book.txt
  train    train a model                          unveil train image --data FOLDER --preset tiny

Look around
  results  list runs and scores in folders        unveil results runs
  weights  list, pull, convert, pack, push        unveil weights convert PATH OUT
  doctor   versions and devices, for bug reports  unveil doctor

Recipes: planner, maze, locomotion, value and stacking (planning); policy and pusht (robot control); image,
text-to-image, autoencoder, lora, inversion and classifier (images); text.
unveil train --help lists the recipes of a verb, unveil train maze --help the flags of a recipe.
Errors are one line; --debug shows where they came from."""
EXTRAS = {
    "gym_pusht": "pusht",
    "pymunk": "pusht",
    "pygame": "pusht",
    "zarr": "pusht",
    "pyarrow": "pusht",
    "PIL": "image",
    "huggingface_hub": "hub",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
}
"""Package -> the extra of unveil that installs it; all others belong to the extra maze."""
DEBUG = "--debug"
SERVE_FLAGS = (
    "checkpoint",
    "lora",
    "embedding",
    "data",
    "runs",
    "port",
    "host",
    "token",
    "open",
)  # of --help


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a mistake of the user, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG in arguments
    arguments = [a for a in arguments if a != DEBUG]
    try:
        arguments = _in_world(arguments)
        return _run(arguments)
    except KeyboardInterrupt as stop:
        print(f"\nunveil: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (UnveilError, ValueError, TypeError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"unveil: {as_flags(_one_line(error), _aliases(arguments))}", file=sys.stderr)
        return 2
    except Exception as error:
        if debug:
            raise
        print(
            f"unveil: internal error, {type(error).__name__}: {_one_line(error)} (--debug shows where)",
            file=sys.stderr,
        )
        return 2


def _aliases(arguments: list[str]) -> dict[str, str]:
    """Aliases of the flags of a command line's verb and recipe, except of flags typed by their own name."""
    verb = RECIPES.get(arguments[0] if arguments else "", {}).get(arguments[1] if len(arguments) > 1 else "")
    typed = {word.partition("=")[0].replace("_", "-") for word in arguments}
    return {alias: flag for alias, flag in verb.aliases.items() if flag not in typed} if verb else {}


def _in_world(arguments: list[str]) -> list[str]:
    """The command of the world that --world names, such as `train pusht` for `train policy --world pusht`.

    Raises:
        UnveilError: no such world.
    """
    verb, recipe, *words = [*arguments, "", ""][: max(2, len(arguments))]
    worlds = WORLDS.get(recipe, ()) if verb in RECIPES else ()
    world = given_in(words)("world") if worlds else None
    if not world:
        return arguments
    if world not in worlds or world not in RECIPES[verb]:
        raise UnveilError(
            f"unknown world {world!r}{did_you_mean(world, worlds)}; worlds: {', '.join(worlds)}"
        )
    rest = [word for word in joined(words, "--world") if not word.startswith("--world=")]
    return [verb, world, *rest]


def _one_line(error: BaseException) -> str:
    if isinstance(error, ImportError):
        missing = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(missing, "maze")
        return f"{one_line(str(error))}; install what is missing with: pip install 'unveil[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename or ''}: {error.strerror}".lstrip(": "))
    return one_line(str(error)).strip() or type(error).__name__


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(OVERVIEW)
        return 0
    if arguments[0] in ("--version", "-V"):
        from importlib.metadata import version

        print(f"unveil {version('unveil')}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb.startswith("-"):
        raise UnveilError(f"unknown flag {verb}{did_you_mean(verb, ['--help', '--version', DEBUG])}")
    if verb not in VERBS:
        raise UnveilError(f"unknown verb {verb!r}{did_you_mean(verb, VERBS)}; verbs: {', '.join(VERBS)}")
    return VERBS[verb](rest)


def _recipes_help(name: str, known: dict[str, Verb]) -> str:
    """The help of a verb: its recipes, each with an example."""
    lines = [f"usage: unveil {name} RECIPE [FLAGS]", ""]
    for recipe, verb in known.items():
        example = (verb.config.__doc__ or "").partition("Example: ")[2].partition("\n")[0]
        lines += [f"  {recipe:<11} {verb.about}", *([f"  {'':<11}   {example}"] if example else [])]
    return "\n".join(
        [*lines, "", f"unveil {name} RECIPE --help shows the common flags, --help-all shows all."]
    )


def _of_recipe(name: str, rest: list[str]) -> int:
    """Run a verb of a recipe; its result is printed for people, and written as a record with --json."""
    known, first = RECIPES[name], rest[0] if rest else "-"
    if first in {*HELP, HELP_ALL}:
        print(_recipes_help(name, known))
        return 0
    recipes = f"recipes: {', '.join(known)}"
    if first.startswith("-") and name == "demo":
        first, rest = "maze", ["maze", *rest]
    if first.startswith("-"):
        raise UnveilError(f"{name} needs a recipe: unveil {name} {next(iter(known))} ...; {recipes}")
    if first not in known:
        raise UnveilError(f"unknown recipe {first!r}{did_you_mean(first, known)}; {recipes}")
    verb = known[first]
    config = configured(verb, rest[1:], f"{name} {first}")
    check_json(target := flat(config).get("json"))
    began = perf_counter()
    with shown_progress() as progress:
        result = wired(verb.does)(config, progress)
    if name == "demo":
        print(result)
    elif name == "train":
        print(f"trained: {result}\nnext: {verb.next(config, result)}")
    elif name == "eval":
        from unveil.runs.tables import metrics_table

        file = target or result.pop("record", None)
        table = result.pop("table", None) or metrics_table(
            result["protocol"], result["metrics"], result.get("reference", {})
        )
        _report(first, config, result, perf_counter() - began, table, file)
    else:
        _report(f"{name} {first}", config, result, perf_counter() - began, result["summary"], target)
    return 0


def _report(
    recipe: str, config: object, result: Mapping[str, object], seconds: float, text: str, target: str | None
) -> None:
    """Write the record of a result, and print its text: on standard error if the record is on standard
    output."""
    write_json(target, record_of(recipe, config, result, seconds))
    print(text, file=sys.stderr if target == "-" else sys.stdout)


def _chat(rest: list[str]) -> int:
    config = configured(CHAT, rest, "chat")
    settings = flat(config)
    check_json(target := settings["json"])
    if settings["prompt"]:
        began = perf_counter()
        result = wired("text.recipes.chat:answer_prompts")(config)
        _report("chat", config, result, perf_counter() - began, result["summary"], target)
        return 0
    if target is not None:
        raise UnveilError("--json needs --prompt: a conversation is printed only on the screen")
    wired("text.recipes.chat:converse")(config, _typed(), print)
    return 0


def _typed() -> Iterator[str]:
    """Yield typed lines until an empty one or the end of input; undecodable bytes become U+FFFD."""
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

    config = parse(Results, rest, "results", Results())
    check_json(config.json)
    results = read_results(config)
    print("".join(f"unveil: {line}\n" for line in results.skipped), end="", file=sys.stderr)
    piped = "-" in (config.json, config.csv, config.markdown, config.latex)
    print(results.summary, file=sys.stderr if piped else sys.stdout)
    for target, written in results.files:
        write(target, written)
    if config.json is not None:
        write_json(config.json, record_of("results", config, results.numbers))
    return 0


def _weights(rest: list[str]) -> int:
    from unveil.commands.weights import listing

    if {*HELP, HELP_ALL} & set(rest[:1]):
        print(_WEIGHTS_HELP)
        return 0
    if not rest:
        print(listing())
        return 0
    if rest[0] not in WEIGHTS:
        raise UnveilError(f"unexpected {rest[0]}{did_you_mean(rest[0], WEIGHTS)}; see unveil weights --help")
    config_class, function = WEIGHTS[rest[0]]
    config = parse(cast(type, wired(config_class)), joined(rest[1:], "--flags"), f"weights {rest[0]}")
    with shown_progress() as progress:
        done = wired(function)(config, progress) if rest[0] == "pull" else wired(function)(config)
    print(done)
    return 0


def _export(rest: list[str]) -> int:
    from unveil.commands.export import Export, export

    print(export(parse(Export, rest, "export")))
    return 0


def _serve(rest: list[str]) -> int:
    from unveil.serve.config import Serve

    config = parse(Serve, rest, "serve", Serve(), SERVE_FLAGS)
    wired("serve.run:serve")(config, partial(print, flush=True))
    return 0


def _doctor(rest: list[str]) -> int:
    if {"-h", "--help"} & set(rest):
        print(
            "usage: unveil doctor\n\nPrints versions, devices and folders, for bug reports.\nExample: unveil "
            "doctor"
        )
        return 0
    if rest:
        raise UnveilError(f"unexpected {rest[0]}; usage: unveil doctor")
    from unveil.commands.doctor import report

    print(report())
    return 0


_WEIGHTS_HELP = """\
usage: unveil weights [pack FLAGS | inspect PATH | convert PATH OUT | pull NAME | push RUN ORG/NAME]

Without arguments: list the packaged models, which come with unveil.
  pack     package a run, as the packaged models are
  inspect  describe a checkpoint of jannerm/diffuser, real-stanford/diffusion_policy, LeRobot, LLaDA,
           diffusers (UNet2DModel), Stable Diffusion 1 and 2 (folder, .safetensors or
           .ckpt), openai's image models or denoising-diffusion-pytorch
  convert  write such a checkpoint, except LLaDA's, as a run of unveil
  pull     download public checkpoints: diffuser-locomotion, diffuser-maze2d, diffuser-kuka, or a
           repository of the Hugging Face Hub, ORG/NAME[@REVISION]
  push     upload the weights, config and card of a run to the Hugging Face Hub
inspect, convert, --checkpoint and unveil.load take ORG/NAME[@REVISION], too: it is downloaded.
unveil weights VERB --help shows the flags of each.
Example: unveil weights"""

VERBS: dict[str, Callable[[list[str]], int]] = {
    **{name: partial(_of_recipe, name) for name in RECIPES},
    "chat": _chat,
    "results": _results,
    "weights": _weights,
    "export": _export,
    "doctor": _doctor,
    "serve": _serve,
}

if __name__ == "__main__":
    sys.exit(main())
