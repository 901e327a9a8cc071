"""Write the table of docs/robustness.md from `benchmarks/results/robustness.json`. `make docs` runs it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from result_tables import replaced, table

ROOT = Path(__file__).resolve().parent.parent
HEADS = (
    "reader",
    "valid files or folders",
    "inputs",
    "read",
    "refused in one line",
    "faults",
    "most additional memory, MB",
    "longest, s",
)


REMARKS = {
    "npz: policies of bodies": "npz: policies of simulated robots, for `unveil data locomotion`",
    "prepared text": "prepared text, of `unveil data text`",
    "run folders": "run folders, loaded",
    "resumed runs": "run folders, resumed",
    "results": "result files, for `unveil results` (names each file that it skips, and goes on, so every input counts as read)",
    "parameters in PNG": "settings stored in a PNG, for `--from-png`",
    "maps": "mazes as text",
}


def section(result: Mapping[str, Any]) -> str:
    """How the inputs ended by reader, what the faults are, and on what machine that was."""
    readers: Mapping[str, Mapping[str, Any]] = result.get("readers", {})
    if not readers:
        return "Not run."
    names = ("sources", "inputs", "values", "refusals")
    body = [
        [
            REMARKS.get(name, name),
            *(f"{row[key]:,}" for key in names),
            f"{len(row['faults'])}",
            f"{row['largest_mb']:.0f}",
            f"{row['longest_seconds']:.2f}",
        ]
        for name, row in readers.items()
    ]
    sums = [sum(row[key] for row in readers.values()) for key in names]
    faults = [(name, fault) for name, row in readers.items() for fault in row["faults"]]
    worst = (
        max(row["largest_mb"] for row in readers.values()),
        max(row["longest_seconds"] for row in readers.values()),
    )
    body.append(
        ["**all**", *(f"{n:,}" for n in sums), f"{len(faults)}", f"{worst[0]:.0f}", f"{worst[1]:.2f}"]
    )
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"Seed {result['seed']}, {result['minutes']:.0f} minutes in total on one core shared with other",
        f"work; {versions}.",
        "",
        *table(HEADS, body),
    ]
    lines += ["Faults:" if faults else "No input ended in a fault."]
    lines += [f"- {name}, input {fault['index']}: {fault['what']}" for name, fault in faults]
    return "\n".join(lines).rstrip()


def main() -> None:
    file, page = ROOT / "benchmarks" / "results" / "robustness.json", ROOT / "docs" / "robustness.md"
    result = json.loads(file.read_text()) if file.is_file() else {}
    page.write_text(replaced(page.read_text(), "robustness", section(result)))


if __name__ == "__main__":
    main()
