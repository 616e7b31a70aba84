"""Resources: configuration and lifecycle of the tools, the tables and the cores."""

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from pydantic import Field

from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.machine import available_memory_bytes, usable_cores
from frnr_assets.media.pool import WorkPool
from frnr_assets.media.process import TimeLimits, ToolError, ToolRunner
from frnr_assets.media.reference import KEPT_FILES, KeptFormat
from frnr_assets.media.toolchain import Toolchain, encode_settings, open_ffmpeg, open_toolchain
from frnr_assets.settings import Settings

# The rest is for Dagster, the page cache and estimates that are too low.
_MEMORY_SHARE = 0.7


class FFmpegResource(dg.ConfigurableResource["FFmpegResource"]):
    """The ffmpeg that decodes and encodes, and how it encodes."""

    path: str | None = Field(None, description="An ffmpeg to use; empty for the one that imageio-ffmpeg brings.")
    encoder: str = Field(description="ffmpeg's name of the encoder.")
    preset: str = Field(description="Encoder preset.")
    extra_params: list[str] = Field([], description="Further encoder arguments, one string each.")
    base_seconds: float = Field(description="Wall-clock limit of any program, in seconds.")
    seconds_per_megapixel: float = Field(description="And as much more per million pixels of its frames.")

    def open(self, runner: ToolRunner) -> FFmpeg:
        """Check that ffmpeg runs.

        Raises:
            ToolError: it is missing or does not work.
        """
        return open_ffmpeg(self.path, runner)

    def limits(self) -> TimeLimits:
        """Return how long a program may take."""
        return TimeLimits(self.base_seconds, self.seconds_per_megapixel)


class VmafResource(dg.ConfigurableResource["VmafResource"]):
    """The VMAF that scores: the libvmaf inside ffmpeg."""

    model: str = Field(description="VMAF model built into libvmaf.")


class TablesResource(dg.ConfigurableResource["TablesResource"]):
    """The tables and the published corpus."""

    data_root: str = Field(description="Folder for tables, corpus, scratch and what is kept.")
    keep_encodes: bool = Field(description="Keep the encodes, under encodes in the data root.")
    keep_reference: str | None = Field(description="Keep the references: yuv (raw) or ffv1 (lossless); empty for not.")

    def tables(self) -> Tables:
        """Return the tables under the data root."""
        return Tables(Path(self.data_root))

    def kept_format(self) -> KeptFormat | None:
        """Return how references are kept.

        Raises:
            ToolError: there is no such format.
        """
        if not self.keep_reference:
            return None
        for known in KEPT_FILES:
            if known == self.keep_reference:
                return known
        raise ToolError(f"keep_reference is {self.keep_reference}; it can be {' or '.join(KEPT_FILES)}")


class ComputeResource(dg.ConfigurableResource["ComputeResource"]):
    """The cores and the memory that a batch may use."""

    cores: int | None = Field(None, description="Pieces of work at once; empty for the cores this process may use.")
    memory_gib: float | None = Field(None, description="Memory for them in GiB; empty for 70 % of what is available.")

    @contextmanager
    def open(self, runner: ToolRunner) -> Iterator[WorkPool]:
        """Lend a pool of cores; whatever still runs on it at the end is killed."""
        cores = self.cores or usable_cores()
        memory = self.memory_gib * 2**30 if self.memory_gib else available_memory_bytes() * _MEMORY_SHARE
        executor = ThreadPoolExecutor(cores, thread_name_prefix="cell")
        try:
            yield WorkPool(executor, cores=cores, memory_bytes=int(memory))
        finally:
            runner.cancel()
            executor.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Workshop:
    """The resources that make rows, together."""

    ffmpeg: FFmpegResource
    vmaf: VmafResource
    tables: TablesResource
    compute: ComputeResource

    @contextmanager
    def open(self, crf_sweep: Sequence[int]) -> Iterator[Engine]:
        """Check the tools and lend an engine.

        Raises:
            dg.Failure: a tool, an encoder or a model is missing, or the disk is full.
        """
        try:
            runner = ToolRunner()
            toolchain = self._toolchain(runner, crf_sweep)
            with self.compute.open(runner) as pool:
                yield Engine(
                    self.tables.tables(),
                    toolchain,
                    pool,
                    keep_encodes=self.tables.keep_encodes,
                    keep_reference=self.tables.kept_format(),
                )
        except ToolError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        except OSError as error:
            what = f"{error.strerror or error}: {error.filename or self.tables.data_root}"
            what_to_do = "make space" if error.errno == errno.ENOSPC else "mend it"
            raise dg.Failure(
                description=f"{what}. What is recorded stays; {what_to_do} and launch the rest again",
                allow_retries=False,
            ) from error

    def _toolchain(self, runner: ToolRunner, crf_sweep: Sequence[int]) -> Toolchain:
        ffmpeg = self.ffmpeg
        settings = encode_settings(ffmpeg.encoder, ffmpeg.preset, tuple(ffmpeg.extra_params), tuple(crf_sweep))
        opened = ffmpeg.open(runner)
        return open_toolchain(opened, settings, vmaf_model=self.vmaf.model, limits=ffmpeg.limits(), runner=runner)


def resources_from(settings: Settings) -> dict[str, object]:
    """Configure every resource from frnr.toml."""
    return {
        "ffmpeg": FFmpegResource(
            path=None if settings.ffmpeg_path is None else str(settings.ffmpeg_path),
            encoder=settings.encoder,
            preset=settings.preset,
            extra_params=list(settings.extra_params),
            base_seconds=settings.tool_base_seconds,
            seconds_per_megapixel=settings.tool_seconds_per_megapixel,
        ),
        "vmaf": VmafResource(model=settings.vmaf_model),
        "tables": TablesResource(
            data_root=str(settings.data_root),
            keep_encodes=settings.keep_encodes,
            keep_reference=settings.keep_reference,
        ),
        "compute": ComputeResource(cores=settings.cores, memory_gib=settings.memory_gib),
    }
