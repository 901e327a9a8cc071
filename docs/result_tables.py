"""A number with its interval, and tables, in Markdown."""

from collections.abc import Sequence
from typing import Any

Rows = dict[str, dict[str, Any]]


def cell(rows: Rows, row: str, name: str, digits: int = 1, seeds: Sequence[str] = ("", "-s1")) -> str:
    """A number with its interval, of one seed after the other; seeds that were not run are left out."""
    parts: list[str] = []
    for seed in seeds:
        found = rows.get(row + seed)
        stem = name.removesuffix("_mean")
        if found is None or name not in found:
            parts.append("not run")
        elif f"{stem}_ci95" in found:
            parts.append(f"{found[name]:.{digits}f} ± {found[f'{stem}_ci95']:.{digits}f}")
        else:
            parts.append(f"{found[name]:.{digits}f}")
    return "<br>".join(part for part in parts if part != "not run") or "not run"


def table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines, the last one empty."""
    return [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(line)} |" for line in body),
        "",
    ]


def replaced(text: str, mark: str, content: str) -> str:
    """The text with what stands between `<!-- mark -->` and `<!-- /mark -->` replaced."""
    head, rest = text.split(f"<!-- {mark} -->")
    tail = rest.split(f"<!-- /{mark} -->")[1]
    return f"{head}<!-- {mark} -->\n{content}\n<!-- /{mark} -->{tail}"
