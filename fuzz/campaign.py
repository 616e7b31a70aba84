"""All mutations of a campaign, on all cores."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import open_ffmpeg
from fuzz.clips import make_clips
from fuzz.mutations import mutate
from fuzz.trial import Outcome, open_tools, try_mutation


def campaign(numbers: Sequence[int], seed: int, folder: Path) -> Iterator[Outcome]:
    """Try mutations on all cores, and yield their outcomes in order.

    In processes and not in threads: each counts the memory of its own children, and a crash is noticed.
    """
    runner = ToolRunner()
    clips = make_clips(folder, open_ffmpeg(None, runner), runner)
    cores = min(len(os.sched_getaffinity(0)), len(numbers))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, _Worker.start, (clips, seed, folder)) as pool:
        try:
            yield from pool.map(_Worker.work, numbers)
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """What one of the processes works with."""

    _instance: "_Worker"

    def __init__(self, clips: dict[str, bytes], seed: int, folder: Path):
        self.clips, self.seed = clips, seed
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.tools = open_tools(self.folder)
        # What the package or a tool writes elsewhere than into its scratch folders is noticed there.
        os.chdir(self.folder)
        tempfile.tempdir = str(self.folder)

    @classmethod
    def start(cls, clips: dict[str, bytes], seed: int, folder: Path) -> None:
        """Start to be such a process."""
        cls._instance = cls(clips, seed, folder)

    @classmethod
    def work(cls, number: int) -> Outcome:
        """Try one mutation."""
        worker = cls._instance
        return try_mutation(mutate(worker.clips, worker.seed, number), worker.tools, worker.folder)
