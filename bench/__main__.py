"""Measure, print the figures as a table, and write them as JSON."""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench.batch import batch_figures, make_clips, memory_figures
from bench.ingestion import ingestion_figures
from bench.measure import Figure
from bench.report import report_figures
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import open_ffmpeg

PARTS = ("batch", "memory", "ingestion", "report")


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, default=PARTS, help="(default: all of them)")
    parser.add_argument("--clips", type=Path, help="folder of clips (default: clips made for the purpose)")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    runner = ToolRunner()
    ffmpeg = open_ffmpeg(None, runner)
    with tempfile.TemporaryDirectory(prefix="frnr-bench-") as name:
        figures = list(_figures(Path(name), arguments.parts, arguments.clips, ffmpeg, runner))
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(f"{machine['cores']} cores, {machine['machine']}, Python {machine['python']}, {ffmpeg.version}\n")
    for figure in figures:
        print(f"{figure.name:<62} {figure.value:>10.3f} {figure.unit:<6} {figure.target}")
    report = {"machine": machine, "ffmpeg": ffmpeg.version, "figures": [asdict(figure) for figure in figures]}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def _figures(
    folder: Path, parts: list[str], clips_folder: Path | None, ffmpeg: FFmpeg, runner: ToolRunner
) -> Iterator[Figure]:
    if "batch" in parts:
        clips = sorted(clips_folder.absolute().glob("*.*4")) if clips_folder else make_clips(folder, ffmpeg, runner)
        yield from batch_figures(folder, clips, ffmpeg)
    if "memory" in parts:
        yield from memory_figures(folder, ffmpeg, runner)
    if "ingestion" in parts:
        yield from ingestion_figures(folder)
    if "report" in parts:
        yield from report_figures(folder)


if __name__ == "__main__":
    main()
