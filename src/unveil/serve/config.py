"""The settings of `unveil serve`; free of torch and of FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """What one request, and what all together, may use.

    Raises:
        ValueError: a value of another type or out of range.
    """

    queue: Annotated[int, Bounds(1)] = 64
    """number of jobs that may wait; further ones are refused"""
    largest_n: Annotated[int, Bounds(1)] = 64
    """largest number of images per job"""
    largest_steps: Annotated[int, Bounds(1)] = 1000
    """largest number of solver steps per job"""
    largest_tokens: Annotated[int, Bounds(1)] = 2048
    """largest number of new tokens per job"""
    megapixels: Annotated[float, Bounds(0, above=True)] = 16.0
    """largest number of pixels of all images of a job, in millions, and of an uploaded image"""
    seconds: Annotated[float, Bounds(0, above=True)] = 3600.0
    """longest time of a job, in seconds"""
    upload: Annotated[int, Bounds(1)] = 32
    """largest size of a request, in MB"""
    kept: Annotated[int, Bounds(1)] = 256
    """largest size of all results in memory, in MB; the oldest are dropped first"""
    trainings: Annotated[int, Bounds(0, 1)] = 1
    """number of trainings at a time; 0: none, for servers that others use"""
    memory: Annotated[float, Bounds(0, above=True)] = 8.0
    """memory for loaded models, in GB; those that were not used for the longest time are unloaded first"""

    def __post_init__(self) -> None:
        check_fields(self)


LIMITS = Limits()


@dataclass(frozen=True)
class Serve:
    """Open the web page of unveil, with the HTTP APIs of AUTOMATIC1111's web interface and of OpenAI.

    Example: unveil serve --checkpoint runs/image --open
    """

    checkpoint: tuple[str, ...] = ()
    """run folders, checkpoint folders or files of models to serve besides the packaged ones; only these can
    be named in requests"""
    data: tuple[str, ...] = ()
    """folders and files that trainings may read, such as a folder of pictures or a text file; requests name
    them by id"""
    runs: Path = Path("runs-studio")
    """folder for the runs of trainings, made when the first one starts"""
    lora: tuple[str, ...] = ()
    """LoRA files, or runs of `unveil train lora`, which `<lora:NAME:0.8>` of a prompt may name: NAME is the
    name of the file without suffix, or of the run"""
    embedding: tuple[str, ...] = ()
    """files of learned words, or runs of `unveil train inversion`, whose words prompts may contain"""
    port: Annotated[int, Bounds(0, 65535)] = 7860
    """port; 0 takes a free one"""
    host: str = "127.0.0.1"
    """address to listen on: this machine alone, unless you give another, such as 0.0.0.0; then a token is
    needed"""
    token: str = ""
    """secret that requests must bring as `Authorization: Bearer TOKEN` (or as the password of Basic); by
    default none on this machine alone, and a random one, which is printed, for other hosts"""
    open: bool = False
    """open the page in the web browser"""
    limits: OmitArgPrefixes[Limits] = LIMITS
    device: str = "auto"
    """device of networks: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""
    threads: Annotated[int, Bounds(0)] = 0
    """number of CPU threads; 0 lets torch decide"""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK
