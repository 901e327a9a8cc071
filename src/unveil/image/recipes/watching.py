"""The beliefs of a sampling, as frames of an animation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.model import ImageModel


class Watched:
    """Record the beliefs about the first `count` images at each network call: frames of an animation."""

    def __init__(self, model: ImageModel, count: int) -> None:
        self.model, self.count = model, count
        self.calls: list[list[np.ndarray]] = []  # for each call, a part from each batch
        self._rows, self._call, self._first = slice(0, 0), 0, 0

    def begin(self, rows: slice) -> None:
        """The next beliefs are about these images; if they begin anew, of a further pass."""
        if rows.start == 0:
            self._first = len(self.calls)
        self._rows, self._call = rows, self._first

    def __call__(self, belief: Tensor, t: Tensor) -> None:
        if self._rows.start >= self.count:
            return
        if self._call == len(self.calls):
            self.calls.append([])
        self.calls[self._call].append(self.model.pixels(belief[: self.count - self._rows.start]).numpy())
        self._call += 1

    def frames(self) -> list[np.ndarray]:
        """(count, C, S, S) uint8 of each call."""
        import numpy as np

        return [np.concatenate(parts) for parts in self.calls]


def at_least(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images (N, C, H, W) of a first pass at the size of the second: nearest neighbours."""
    import numpy as np

    rows, columns = (np.arange(n) * m // n for n, m in ((height, images.shape[2]), (width, images.shape[3])))
    return images[:, :, rows][:, :, :, columns]
