"""Which entries of dictionary observations make a row, and which are goals."""

from collections.abc import Mapping
from typing import NamedTuple

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, stored

GOAL, ACHIEVED = "desired_goal", "achieved_goal"  # names of gymnasium's goal environments


class Reading(NamedTuple):
    """What is read of a source.

    Args:
        observe: the entries of dictionary observations that make a row, in this order; () takes
            `observation` if there is one, otherwise all vectors of numbers in the order of their names.
        goals: read goals too: `desired_goal` and `achieved_goal` become `infos["goal"]` and
            `infos["achieved_goal"]`, and are no part of a row unless `observe` names them.
        rewards: whether rewards must be there; without them a source may have none, and they are 0.
    """

    observe: tuple[str, ...] = ()
    goals: bool = False
    rewards: bool = True


DEFAULT = Reading()


def row_fields(names: Mapping[str, int] | list[str], lost: Mapping[str, str], how: Reading) -> list[str]:
    """The entries that make a row.

    Args:
        names: the vectors of numbers of an observation, in their order.
        lost: the other entries, and what they are.
    Raises:
        UnveilError: an entry of `observe` that there is not, or that is no vector of numbers.
    """
    known = list(names)
    for name in how.observe:
        if name in lost:
            raise UnveilError(
                f"`observe` names {name}, which is {lost[name]}; planners read vectors of numbers: encode it "
                "first, or train a policy on it (`unveil train policy`)"
            )
        if name not in known:
            raise UnveilError(
                f"`observe` names {name}, but observations have no such field; they have "
                f"{', '.join(known[:12]) or 'no vector of numbers'}"
            )
    if how.observe:
        return list(how.observe)
    if "observation" in known:
        return ["observation"]
    return [name for name in known if not (how.goals and name in (GOAL, ACHIEVED))]


def check_vectors(observations: np.ndarray, where: str) -> None:
    """Refuse observations that are no vectors.

    Raises:
        UnveilError: they have two or more axes per step, as pictures have.
    """
    if observations.ndim > 2:
        raise UnveilError(
            f"{where} are arrays of shape {observations.shape[1:]} per step, such as pictures; planners read "
            "vectors of numbers: encode them first, or train a policy on them (`unveil train policy`)"
        )


def described_array(shape: tuple[int, ...], kind: str) -> str:
    """What an entry is that makes no row, in words.

    Args:
        shape: of one step.
        kind: of its dtype, as numpy's letters.
    """
    if kind not in "fiub":
        return "text or objects"
    return f"an array of shape {shape} per step, such as a picture"


def hdf5_fields(
    group: h5py.Group, where: str, how: Reading, lost: dict[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The entries of a group of observations that make a row, and its goals.

    Args:
        lost: receives the entries that make no row, and what they are.
    Raises:
        UnveilError: as `row_fields`, or there is no array of numbers.
    """
    found: dict[str, int] = {}

    def look(inside: h5py.Group, before: str) -> None:
        for key in sorted(map(str, inside)):
            part = stored(inside, key)
            if isinstance(part, h5py.Group):
                look(part, f"{before}{key}/")
            elif isinstance(part, h5py.Dataset) and part.dtype.kind in "fiub" and part.ndim in (1, 2):
                found[before + key] = part.ndim
            elif isinstance(part, h5py.Dataset):
                lost[before + key] = described_array(part.shape[1:], part.dtype.kind)

    look(group, "")
    names = row_fields(found, lost, how)
    if not names:
        raise UnveilError(
            f"{where}: observations have no arrays of numbers of one length; they have "
            f"{sorted(map(str, group))[:12]}"
        )
    if not how.observe and names == ["observation"]:
        lost.clear()  # the other entries of goal tasks are known
    goals = {key: array(group, key) for key in (GOAL, ACHIEVED)[: 1 + how.goals] if key in found}
    return {name: array(group, name) for name in names}, goals
