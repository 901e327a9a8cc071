"""`unveil export`: a policy's decision, a plan, or a network as one graph of torch.export or ONNX."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from tyro.conf import OmitArgPrefixes, Positional, arg

from unveil.checks import Bounds, check_fields
from unveil.errors import UnveilError
from unveil.runs.exported import Sampling
from unveil.runs.verb import wired

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from unveil.runs.exported import Exportable, Inputs

    Run = Callable[[Inputs], tuple[Tensor, ...]]

LARGEST = 2**31 - 2**26  # bytes of weights in one ONNX file, which holds less than 2 GiB
TOLERANCE = 1e-5  # of the largest number, and of 1
APPLICATIONS = ("policy", "planning", "image", "text")
SMALLEST = {"batch": 1, "horizon": 2, "length": 3}  # dynamic sizes; of the horizon in units of its multiple
AS_LOADED = Sampling()
COUNTS = (1, 2)  # batch sizes at which the graph is compared with the library; 3 is recorded


@dataclass(frozen=True)
class Export:
    """Write a policy's decision, a planner's plan, or the network of images or text as one graph.

    A policy's decision is whole: it normalises, denoises in all its steps, and un-normalises; the noise is an
    input. The file needs torch or an ONNX runtime, and not unveil. It is compared with the library before it
    is written.

    Example: unveil export pusht-keypoints policy.onnx --format onnx
    """

    model: Annotated[Positional[str], arg(metavar="P")]
    """name of a packaged model, run folder, checkpoint, or another program's checkpoint, as `unveil.load`
    takes it"""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """file to write: .pt2 for torch, .onnx for onnx"""
    format: Literal["torch", "onnx"] | None = None
    """torch: a program of torch.export; onnx: an ONNX graph (extra `export`); by default what the ending of
    OUT says"""
    sampling: OmitArgPrefixes[Sampling] = AS_LOADED
    threads: Annotated[int, Bounds(0)] = 0
    """number of CPU threads while milliseconds are measured; 0 lets torch decide"""

    def __post_init__(self) -> None:
        check_fields(self)


class Measured(NamedTuple):
    """Differences and times of a written graph.

    Args:
        error: largest difference from the library, relative to the largest number if that exceeds 1.
        library_ms, own_ms: median milliseconds of a batch of one, of the library and of the graph.
    """

    error: float
    library_ms: float
    own_ms: float


def export(config: Export) -> str:
    """Write the graph; returns a summary.

    Raises:
        UnveilError: a model that cannot be exported, another ending of OUT than the format's, a file in the
            way, or a graph that differs from the library.
        ImportError: the packages of ONNX are missing.
    """
    import torch

    from unveil.files.atomic import check_output, output
    from unveil.loading import load

    kind = _format(config)
    check_output(config.out)
    if kind == "onnx":
        for package in ("onnx", "onnxruntime", "onnxscript"):  # the line of the error says how to get it
            import_module(package)
    if config.threads:
        torch.set_num_threads(config.threads)
    it = offered(load(config.model, "cpu"), config)
    size = sum(p.numel() * p.element_size() for p in it.module.state_dict().values())
    if kind == "onnx" and size > LARGEST:
        raise UnveilError(
            f"{config.model}: {size / 2**30:.1f} GiB of weights, but an ONNX file holds less than 2 GiB; "
            "give `format=torch`"
        )
    program = recorded(it)
    data = torch_bytes(program, it) if kind == "torch" else onnx_bytes(program, it)
    run = _torch_runner(data, it) if kind == "torch" else _onnx_runner(data, it, config.threads)
    measured = compared(it, run)
    if not measured.error <= TOLERANCE:
        raise UnveilError(
            f"{config.model}: the graph differs from the library by {measured.error:.1e}, so it is not "
            "written; please report this"
        )
    with output(config.out) as partial:
        partial.write_bytes(data)
    return summary(config.out, it, len(data), size, measured)


def _format(config: Export) -> Literal["torch", "onnx"]:
    suffix = {".pt2": "torch", ".onnx": "onnx"}.get(config.out.suffix)
    if suffix is None or config.format not in (None, suffix):
        wanted = {"torch": ".pt2", "onnx": ".onnx", None: ".pt2 or .onnx"}[config.format]
        raise UnveilError(f"{config.out}: the file must end in {wanted}")
    return "torch" if suffix == "torch" else "onnx"


def offered(model: object, config: Export) -> Exportable:
    """What an application offers of a loaded model.

    Raises:
        UnveilError: none can export it.
    """
    for application in APPLICATIONS:
        it: Exportable | None = wired(f"{application}.recipes.export:exportable")(model, config.sampling)
        if it is not None:
            return it
    raise UnveilError(
        f"{config.model} is a {type(model).__name__}, which cannot be exported; policies, planners, "
        "image models and text models can"
    )


def recorded(it: Exportable) -> ExportedProgram:
    """The module as a program of torch.export, recorded at a batch of three, with dynamic sizes.

    Raises:
        UnveilError: torch cannot record it.
    """
    import torch
    from torch.export import Dim, export

    inputs = it.draw(3)
    sizes: dict[str, Dim] = {}
    shapes: list[dict[int, Dim]] = []
    for name in inputs:
        shape: dict[int, Dim] = {}
        for axis, size in it.axes.get(name, {}).items():
            factor, word = (1, size) if isinstance(size, str) else size
            size = sizes.setdefault(word, Dim(word, min=SMALLEST[word], max=2**16))
            shape[axis] = factor * size if factor > 1 else size
        shapes.append(shape)
    arguments = tuple(inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own parts
        it.module(*arguments)  # computes the coefficients of all times, which the graph holds as numbers
        program = export(it.module, arguments, dynamic_shapes=tuple(shapes))
    for node in program.graph.nodes:  # no paths of this machine, and no lines of code
        node.meta.pop("stack_trace", None)
    return program


def _metadata(it: Exportable) -> str:
    from importlib.metadata import version

    from unveil.files.atomic import MADE

    return json.dumps({**it.described, "notes": it.notes, "unveil": version("unveil"), "origin": MADE})


def torch_bytes(program: ExportedProgram, it: Exportable) -> bytes:
    """The file of torch.export.load, with the description as its extra file unveil.json."""
    import torch

    from unveil.files.atomic import MADE

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer, extra_files={"unveil.json": _metadata(it)})
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = MADE.encode()
    return buffer.getvalue()


def onnx_bytes(program: ExportedProgram, it: Exportable) -> bytes:
    """The ONNX graph, with the description in its metadata."""
    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            program, dynamo=True, input_names=list(it.draw(2)), output_names=list(it.outputs), verbose=False
        )
    if made is None:
        raise UnveilError("torch.onnx made no graph; give `format=torch`")
    proto = made.model_proto
    for node in proto.graph.node:  # the modules and lines of code that each came from
        del node.metadata_props[:]
    entry = proto.metadata_props.add()
    entry.key, entry.value = "unveil", _metadata(it)
    return proto.SerializeToString()


@contextlib.contextmanager
def _quiet(name: str) -> Generator[None]:
    """Without the warnings of a package's loggers, here about packages that are not needed."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _torch_runner(data: bytes, it: Exportable) -> Run:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(io.BytesIO(data)).module()

    def run(inputs: Inputs) -> tuple[Tensor, ...]:
        with torch.no_grad():
            result = module(*inputs.values())
        return result if isinstance(result, tuple) else (result,)

    return run


def _onnx_runner(data: bytes, it: Exportable, threads: int) -> Run:
    import torch

    onnxruntime: Any = import_module("onnxruntime")  # without stubs
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> tuple[Tensor, ...]:
        results = session.run(list(it.outputs), {name: value.numpy() for name, value in inputs.items()})
        return tuple(torch.from_numpy(result) for result in results)

    return run


def compared(it: Exportable, run: Run) -> Measured:
    """The graph beside the library, at other batch sizes than the recorded one."""
    error = 0.0
    for count in COUNTS:
        inputs = it.draw(count)
        for wanted, got in zip(it.library(inputs), run(inputs), strict=True):
            largest = float((got.double() - wanted.double()).abs().max())
            error = max(error, largest / max(1.0, float(wanted.abs().max())))
    inputs = it.draw(1)
    return Measured(error, milliseconds(lambda: it.library(inputs)), milliseconds(lambda: run(inputs)))


def milliseconds(call: Callable[[], object], least: int = 3, most: int = 30, budget: float = 2.0) -> float:
    """The median time of a call in milliseconds, of `least` to `most` calls within a budget of seconds."""
    from statistics import median
    from time import perf_counter

    spent: list[float] = []
    while len(spent) < least or (len(spent) < most and sum(spent) < budget):
        began = perf_counter()
        call()
        spent.append(perf_counter() - began)
    return 1000.0 * median(spent)


def summary(out: Path, it: Exportable, size: int, weights: int, measured: Measured) -> str:
    """What was written, for people."""
    rows = it.described
    inputs = [f"  input   {name}: {text}" for name, text in rows["inputs"].items()]
    outputs = [f"  output  {name}: {text}" for name, text in rows["outputs"].items()]
    return "\n".join(
        [
            f"{out}: {size / 2**20:.2f} MiB (weights {weights / 2**20:.2f} MiB)",
            *inputs,
            *outputs,
            f"largest difference from the library {measured.error:.1e}; a batch of one takes "
            f"{measured.own_ms:.1f} ms, in the library {measured.library_ms:.1f} ms",
            *(f"note: {note}" for note in it.notes),
        ]
    )
