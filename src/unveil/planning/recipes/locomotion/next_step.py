"""What to do after a locomotion training."""

from __future__ import annotations

from typing import Any


def has_body(dataset: str, run: Any) -> bool:
    """Whether a run's data name a body, and have its sizes."""
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.worlds.locomotion.body import body_of

    try:
        body = body_of(dataset)
    except ValueError:
        return False
    described = read_locomotion_config(run, "value")
    return (described["actions"], described["observations"]) == (body.actions, body.observations)
