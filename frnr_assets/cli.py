"""The command `frnr`."""

import argparse
import sys
from pathlib import Path

from dagster._core.errors import DagsterExecutionInterruptedError

from frnr_assets.demo import run_demo
from frnr_assets.media.process import ToolError

_OK, _FAILED = 0, 1


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 when it failed; argparse exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="frnr", description="Full-reference rows from no-reference datasets.")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser("demo", help="make a few clips and take them through the whole graph")
    demo.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: %(default)s)")
    demo.add_argument(
        "--instance-config",
        type=Path,
        default=Path("dagster.yaml"),
        help="Dagster's configuration (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    try:
        run_demo(arguments.folder, arguments.instance_config)
    except OSError as error:
        print(f"frnr: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return _FAILED
    except ToolError as error:
        print(f"frnr: {error}", file=sys.stderr)  # noqa: T201 - the command talks to a person at a terminal
        return _FAILED
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        print("frnr: interrupted; what was done is kept, the same command goes on from there", file=sys.stderr)  # noqa: T201
        return _FAILED
    return _OK


if __name__ == "__main__":
    sys.exit(main())
