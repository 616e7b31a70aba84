"""Put damaged clips through the package, print what became of them, and keep those that did wrong."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from fuzz.campaign import campaign
from fuzz.report import keep_offender, report
from fuzz.trial import Outcome

DEFAULT_MUTATIONS = 4000


def main(argv: Sequence[str] | None = None) -> int:
    """Try mutations; return 1 if the package did wrong with any of them, else 0."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=DEFAULT_MUTATIONS, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all of them (default: %(default)s)")
    parser.add_argument("--number", type=int, action="append", help="try this one again, and no other; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("fuzz-offenders"), help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    numbers = arguments.number or range(arguments.mutations)
    outcomes: list[Outcome] = []
    died = False
    with tempfile.TemporaryDirectory(prefix="frnr-fuzz-") as name:
        try:
            for outcome in tqdm(campaign(numbers, arguments.seed, Path(name)), total=len(numbers), mininterval=2):
                outcomes.append(outcome)
                if outcome.offences:
                    print(keep_offender(outcome, arguments.output))
        except BrokenProcessPool:
            died = True
    print(report(outcomes))
    if died:
        print(f"A process died over number {numbers[len(outcomes)]} of seed {arguments.seed}, or one soon after it.")
    return 1 if died or any(outcome.offences for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
