"""Measure, print the figures as a table, and write them as JSON."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.batch import batch_figures
from bench.fabricate import FULL_SIZE
from bench.instance import instance_figures
from bench.measure import Figure
from bench.memory import memory_figures
from bench.page import Part, machine, table, write_json, write_page
from bench.recording import full_recording_figures, recording_figures
from bench.stage import Stage
from bench.tables import tables_figures

# In the order in which they are measured: what is recorded is slower once somebody has looked at the instance.
PARTS: Mapping[str, Callable[[Stage], Iterator[Figure]]] = {
    "batch": batch_figures,
    "memory": memory_figures,
    "recording": recording_figures,
    "tables": tables_figures,
    "instance": instance_figures,
    "full-recording": full_recording_figures,
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all of them)")
    parser.add_argument("--clips", type=Path, help="folder of clips for batch (default: clips made for the purpose)")
    parser.add_argument("--size", type=int, default=FULL_SIZE, help="clips of the fabricated dataset (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="(default: %(default)s)")
    parser.add_argument("--page", type=Path, help="measure nothing; put the table of the output into this page")
    arguments = parser.parse_args()
    if arguments.page:
        try:
            write_page(arguments.page, json.loads(arguments.output.read_text()))
        except (OSError, ValueError) as error:
            parser.error(str(error))
        return
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="frnr-bench-") as name:
        stage = Stage(Path(name), arguments.size, arguments.clips)
        measured_on = machine(stage.ffmpeg.version)
        parts = []
        for part in arguments.parts or PARTS:
            started = time.monotonic()
            figures = list(PARTS[part](stage))
            parts.append(Part(part, time.monotonic() - started, figures))
            # Each part is worth having when a later one breaks.
            write_json(arguments.output, measured_on, parts)
            print(f"{part}: {parts[-1].seconds:.0f} s", flush=True)
    print("\n" + table(json.loads(arguments.output.read_text())))


if __name__ == "__main__":
    main()
