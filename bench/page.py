"""The table of figures: on a terminal, as JSON, and in a page of the documentation."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.measure import Figure
from frnr_assets.media.machine import usable_cores

BEGIN = "<!-- the table: python -m bench --page writes it -->"
END = "<!-- end of the table -->"


@dataclass(frozen=True)
class Part:
    """What one part of the benchmark has measured.

    Attributes:
        name: its name.
        seconds: how long it took.
        figures: its lines.
    """

    name: str
    seconds: float
    figures: Sequence[Figure]


def machine(ffmpeg: str) -> dict[str, str]:
    """Return what the figures were measured on."""
    cpu = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    model = next((value.strip() for name, value in cpu.items() if name.strip() == "model name"), platform.machine())
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "cores": str(usable_cores()),
        "processor": model,
        "memory": f"{int(memory['MemTotal'].split()[0]) / 2**20:.1f} GiB",
        "Python": platform.python_version(),
        "ffmpeg": ffmpeg,
        **{name: version(name) for name in ("dagster", "polars", "pyarrow")},
    }


def write_json(path: Path, measured_on: Mapping[str, str], parts: Sequence[Part]) -> None:
    """Write what was measured."""
    content = {
        "machine": measured_on,
        "parts": [
            {
                "name": part.name,
                "seconds": round(part.seconds, 1),
                "figures": [
                    {**asdict(figure), "target": figure.target, "verdict": figure.verdict} for figure in part.figures
                ],
            }
            for part in parts
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def table(content: Mapping[str, Any]) -> str:
    """Return the table of what ``write_json`` wrote, in Markdown."""
    lines = [", ".join(f"{name} {value}" for name, value in content["machine"].items()), ""]
    for part in content["parts"]:
        lines += [
            f"**{part['name']}** ({part['seconds']:.0f} s)",
            "",
            "| figure | value | target | | |",
            "|---|---:|---|---|---|",
            *(_line(figure) for figure in part["figures"]),
            "",
        ]
    return "\n".join(lines)


def _line(figure: Mapping[str, Any]) -> str:
    value = "not measured" if figure["value"] is None else f"{_rounded(figure['value'])} {figure['unit']}".strip()
    return f"| {figure['name']} | {value} | {figure['target']} | {figure['verdict']} | {figure['remark']} |"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def write_page(page: Path, content: Mapping[str, Any]) -> None:
    """Put the table between the two markers of a page.

    Raises:
        ValueError: the page has no such markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: there is no line {BEGIN}, or none {END} behind it; write both")
    page.write_text(f"{before}{BEGIN}\n\n{table(content)}\n{END}{after}")
