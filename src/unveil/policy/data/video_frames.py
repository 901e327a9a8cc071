"""Frames of videos by number, each decoded when it is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from unveil.errors import UnveilError, one_line
from unveil.policy.data.frames import Rows
from unveil.policy.data.lerobot_pictures import check_depth, decoder_of, frame_of_av, piped, video_files

TOGETHER = 12  # frames that are decoded and thrown away rather than sought anew


@dataclass(frozen=True)
class VideoFrames:
    """The frames of several videos, one video after the other.

    Args:
        files: the videos.
        ends: one past each video's last frame.
        fps: frames per second.
        decoder: module that decodes them.
        shape: (N, h, w, 3).
    """

    files: tuple[Path, ...]
    ends: Int[np.ndarray, " E"]
    fps: float
    decoder: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def read(self, rows: Rows) -> UInt8[np.ndarray, "n h w 3"]:
        """Decode the frames of these rows."""
        rows = np.asarray(rows, np.int64)
        made = np.zeros((len(rows), *self.shape[1:]), np.uint8)
        which = np.searchsorted(self.ends, rows, side="right")
        for i in np.unique(which).tolist():
            begin = int(self.ends[i - 1]) if i else 0
            numbers = np.unique(rows[which == i]) - begin
            for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > TOGETHER) + 1):
                first, count = int(run[0]), int(run[-1] - run[0]) + 1
                for k, frame in enumerate(self._decoded(self.files[i], first, count)):
                    made[rows == begin + first + k] = frame
        return made

    def _decoded(self, file: Path, first: int, count: int) -> Iterator[np.ndarray]:
        """Frames first .. first + count - 1 of a video."""
        done = 0
        try:
            for frame in _sought(file, first, count, self.fps, self.decoder):
                yield frame
                done += 1
        except UnveilError:
            raise
        except Exception as error:  # decoders raise anything
            raise UnveilError(
                f"{file}: not a complete video for {self.decoder} ({one_line(str(error))})"
            ) from error
        if done < count:
            raise UnveilError(f"{file}: it ends before frame {first + count - 1}; is the download complete?")


def video_frames(path: Path, feature: str, count: int, fps: float | None, deep: bool) -> VideoFrames:
    """The frames of a feature's videos, in the order of the data set's rows.

    Raises:
        UnveilError: no video, no decoder, depth, a damaged video, or another number of frames than rows.
    """
    check_depth(path, feature, deep)
    files, decoder = video_files(path, feature), decoder_of(path, feature)
    counts, rates = list[int](), list[float]()
    for file in files:
        try:
            frames, rate = _counted(file, decoder)
        except Exception as error:
            raise UnveilError(
                f"{file}: not a complete video for {decoder} ({one_line(str(error))})"
            ) from error
        counts.append(frames)
        rates.append(rate)
    if sum(counts) != count:
        raise UnveilError(
            f"{path}: {sum(counts):,} frames of {feature!r}, but {count:,} steps; is the download complete?"
        )
    one = VideoFrames(tuple(files), np.cumsum(counts), fps or rates[0], decoder, (count, 0, 0, 3))
    first = next(one._decoded(files[0], 0, 1))  # pyright: ignore[reportPrivateUsage]
    return VideoFrames(one.files, one.ends, one.fps, decoder, (count, *first.shape))


def _counted(file: Path, decoder: str) -> tuple[int, float]:
    """Number of frames and frames per second of a video."""
    if decoder == "av":
        with import_module("av").open(str(file)) as container:
            stream = container.streams.video[0]
            frames = stream.frames or sum(1 for _ in container.decode(video=0))
            return int(frames), float(stream.average_rate)
    if decoder == "torchcodec":
        read = import_module("torchcodec.decoders").VideoDecoder(str(file))
        return len(read), float(read.metadata.average_fps)
    frames, seconds = import_module("imageio_ffmpeg").count_frames_and_secs(str(file))
    return int(frames), frames / seconds if seconds else 1.0


def _sought(file: Path, first: int, count: int, fps: float, decoder: str) -> Iterator[np.ndarray]:
    if decoder == "av":
        with import_module("av").open(str(file)) as container:
            stream = container.streams.video[0]
            start = stream.start_time or 0
            wanted = [start + round((first + k) / fps / float(stream.time_base)) for k in range(count)]
            half = round(0.5 / fps / float(stream.time_base))
            container.seek(max(start, wanted[0]), stream=stream)  # to the last key frame before it
            done = 0
            for frame in container.decode(stream):
                if frame.pts < wanted[0] - half:
                    continue
                yield frame_of_av(frame)
                if (done := done + 1) == count:
                    return
    elif decoder == "torchcodec":
        read = import_module("torchcodec.decoders").VideoDecoder(str(file))
        for k in range(first, first + count):
            yield read[k].permute(1, 2, 0).numpy()
    else:
        program = import_module("imageio_ffmpeg").get_ffmpeg_exe()
        at = f"{max(0.0, (first - 0.5) / fps):.6f}"
        made = ["-fps_mode", "passthrough", "-frames:v", str(count), "-f", "image2pipe", "-c:v", "ppm", "-"]
        yield from piped([program, "-v", "error", "-ss", at, "-i", f"file:{file}", *made])
