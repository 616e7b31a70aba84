"""Resources: configuration and lifecycle of the tools, the tables and the cores."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from pydantic import Field

from frnr_assets.containers import CONTAINERS, Container
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.workshop import compute_on, open_engine
from frnr_assets.media.decode import KEPT_FILES, KeptFormat
from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.pool import WorkPool
from frnr_assets.media.process import TimeLimits, ToolError
from frnr_assets.media.sandbox import ProcessLimits
from frnr_assets.media.source import SourceRules
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings
from frnr_assets.media.vmaf import VmafSettings, vmaf_settings
from frnr_assets.settings import Settings
from frnr_assets.words import harmless_lines


class FFmpegResource(dg.ConfigurableResource["FFmpegResource"]):
    """The ffmpeg that decodes and encodes, and how it encodes."""

    path: str | None = Field(None, description="An ffmpeg to use; empty for the one that imageio-ffmpeg brings.")
    encoder: str = Field(description="ffmpeg's name of the encoder.")
    preset: str = Field(description="Encoder preset.")
    extra_params: list[str] = Field([], description="Further encoder arguments, one string each.")
    sample_clip_seconds: float = Field(0.0, description="Seconds of a clip's centre that are used; 0 for all of it.")
    base_seconds: float = Field(description="Wall-clock limit of any program, in seconds.")
    seconds_per_megapixel: float = Field(description="And as much more per million pixels of its frames.")
    memory_gib: float = Field(description="Address space of any program, in GiB; more for large frames.")
    file_gib: float = Field(description="Size of any file that a program writes, in GiB.")
    open_files: int = Field(description="Files that a program may have open at once.")

    def settings(self, crf_sweep: Sequence[int]) -> EncodeSettings:
        """Return how distortions are made.

        Raises:
            ToolError: the encoder, its preset or a parameter cannot be used.
        """
        return encode_settings(
            self.encoder, self.preset, tuple(self.extra_params), tuple(crf_sweep), self.sample_clip_seconds
        )

    def limits(self) -> TimeLimits:
        """Return how long a program may take."""
        return TimeLimits(self.base_seconds, self.seconds_per_megapixel)

    def process(self) -> ProcessLimits:
        """Return what a program may use."""
        return ProcessLimits(int(self.memory_gib * 2**30), int(self.file_gib * 2**30), self.open_files)


class SourcesResource(dg.ConfigurableResource["SourcesResource"]):
    """Which files may be sources."""

    roots: list[str] = Field(description="Folders that sources may be in, links resolved.")
    containers: list[str] = Field(description="Kinds of containers: mov, matroska, avi, mpegts.")
    codecs: list[str] = Field(description="Video codecs, by ffmpeg's names.")
    max_gib: float = Field(description="Size of the largest file, in GiB.")
    max_pixels: int = Field(description="Width x height of the largest frame.")
    max_frames: int = Field(description="Frames of the longest clip.")
    max_gigapixels: float = Field(description="Width x height x frames of the longest clip, in thousand millions.")
    max_seconds: float = Field(description="Duration of the longest clip, in seconds.")
    max_streams: int = Field(description="Streams of any kind in one file.")
    min_side: int = Field(description="Pixels of a frame's shortest side after the crop.")
    accept_damaged: bool = Field(description="Take clips that decode with errors, and mark their references.")

    def rules(self) -> SourceRules:
        """Return the rules.

        Raises:
            ToolError: there is no such container.
        """
        return SourceRules(
            roots=tuple(map(Path, self.roots)),
            max_bytes=int(self.max_gib * 2**30),
            containers=tuple(map(_container, self.containers)),
            codecs=tuple(self.codecs),
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_gigapixels=self.max_gigapixels,
            max_duration_s=self.max_seconds,
            max_streams=self.max_streams,
            min_side=self.min_side,
            accept_damaged=self.accept_damaged,
        )


def _container(name: str) -> Container:
    for known in CONTAINERS:
        if known == name:
            return known
    raise ToolError(f"containers has {name}; there are {', '.join(CONTAINERS)}")


class VmafResource(dg.ConfigurableResource["VmafResource"]):
    """The VMAF that scores: the libvmaf inside ffmpeg, or a ``vmaf`` executable."""

    model: str = Field(description="VMAF model: a built-in version, the path of a JSON model, or auto.")
    backend: str = Field("libvmaf", description="libvmaf, the one inside ffmpeg, or cli, a vmaf executable.")
    path: str | None = Field(None, description="The vmaf executable; empty for the one on PATH.")
    args: list[str] = Field([], description="Further arguments of the vmaf executable, one string each.")
    extra_features: list[str] = Field([], description="Features beyond the canonical-6, for the table of their own.")

    def settings(self) -> VmafSettings:
        """Return how distortions are scored.

        Raises:
            ToolError: the model cannot be read, or a feature or an argument cannot be used.
        """
        return vmaf_settings(self.model, self.extra_features, self.backend, self.path, self.args)


class TablesResource(dg.ConfigurableResource["TablesResource"]):
    """The tables and the published corpus."""

    data_root: str = Field(description="Folder for tables, corpus, scratch and what is kept.")
    scratch_dir: str | None = Field(
        None, description="Folder for what is deleted soon; empty for one in the data root."
    )
    encode_dir: str | None = Field(None, description="Folder of the kept encodes; empty for one in the data root.")
    keep_encodes: bool = Field(description="Keep the encodes.")
    keep_reference: str | None = Field(description="Keep the references: yuv (raw) or ffv1 (lossless); empty for not.")
    per_frame_scores: bool = Field(description="Keep the scores of every frame, in a table of their own.")

    def tables(self) -> Tables:
        """Return the tables under the data root."""
        return Tables(
            Path(self.data_root),
            None if self.scratch_dir is None else Path(self.scratch_dir),
            None if self.encode_dir is None else Path(self.encode_dir),
        )

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
    """What works for a batch: cores and memory of this machine, or a Dask cluster."""

    scheduler: str | None = Field(None, description="Address of a Dask scheduler; empty for this machine.")
    cores: int | None = Field(None, description="Pieces of work at once; empty for the cores this process may use.")
    memory_gib: float | None = Field(None, description="Memory for them in GiB; empty for 70 % of what is available.")

    def open(self, tools: ToolSettings, toolchain: Toolchain) -> AbstractContextManager[WorkPool]:
        """Lend a pool of cores; whatever still runs on it at the end is killed.

        Raises:
            ToolError: the scheduler does not answer, or the package for it is not installed.
        """
        return compute_on(self.scheduler, cores=self.cores, memory_gib=self.memory_gib)(tools, toolchain)


@dataclass(frozen=True)
class Workshop:
    """The resources that make rows, together."""

    sources: SourcesResource
    ffmpeg: FFmpegResource
    vmaf: VmafResource
    tables: TablesResource
    compute: ComputeResource

    def tools(self, crf_sweep: Sequence[int]) -> ToolSettings:
        """Return which tools are used, and how, and on which files.

        Raises:
            ToolError: a setting cannot be used.
        """
        return ToolSettings(
            encode=self.ffmpeg.settings(crf_sweep),
            vmaf=self.vmaf.settings(),
            limits=self.ffmpeg.limits(),
            process=self.ffmpeg.process(),
            rules=self.sources.rules(),
            ffmpeg_path=self.ffmpeg.path,
        )

    @contextmanager
    def open(self, crf_sweep: Sequence[int]) -> Iterator[Engine]:
        """Check the tools and lend an engine.

        Raises:
            dg.Failure: a tool, an encoder or a model is missing, or the disk is full.
        """
        try:
            with open_engine(
                self.tables.tables(),
                self.tools(crf_sweep),
                self.compute.open,
                keep_encodes=self.tables.keep_encodes,
                keep_reference=self.tables.kept_format(),
                per_frame_scores=self.tables.per_frame_scores,
            ) as engine:
                yield engine
        except ToolError as error:
            raise dg.Failure(description=harmless_lines(str(error)), allow_retries=False) from error
        except OSError as error:
            what = f"{error.strerror or error}: {error.filename or self.tables.data_root}"
            what_to_do = "make space" if error.errno == errno.ENOSPC else "mend it"
            raise dg.Failure(
                description=harmless_lines(f"{what}. What is recorded stays; {what_to_do} and launch the rest again"),
                allow_retries=False,
            ) from error


def resources_from(settings: Settings) -> dict[str, dg.ResourceDefinition]:
    """Configure every resource from frnr.toml, and from nowhere else.

    A run cannot configure them: whoever can launch one would choose which program is started, and where it writes.
    """
    rules = settings.source_rules()
    configured: dict[str, object] = {
        "sources": SourcesResource(
            roots=[str(root) for root in rules.roots or ()],
            containers=list(settings.containers),
            codecs=list(settings.codecs),
            max_gib=settings.max_source_gib,
            max_pixels=settings.max_pixels,
            max_frames=settings.max_frames,
            max_gigapixels=settings.max_gigapixels,
            max_seconds=settings.max_seconds,
            max_streams=settings.max_streams,
            min_side=settings.min_side,
            accept_damaged=settings.accept_damaged,
        ),
        "ffmpeg": FFmpegResource(
            path=None if settings.ffmpeg_path is None else str(settings.ffmpeg_path),
            encoder=settings.encoder,
            preset=settings.preset,
            extra_params=list(settings.extra_params),
            sample_clip_seconds=settings.sample_clip_seconds,
            base_seconds=settings.tool_base_seconds,
            seconds_per_megapixel=settings.tool_seconds_per_megapixel,
            memory_gib=settings.tool_memory_gib,
            file_gib=settings.tool_file_gib,
            open_files=settings.tool_open_files,
        ),
        "vmaf": VmafResource(
            model=settings.vmaf_model,
            backend=settings.vmaf_backend,
            path=settings.vmaf_path,
            args=list(settings.vmaf_args),
            extra_features=list(settings.extra_features),
        ),
        "tables": TablesResource(
            data_root=str(settings.data_root),
            scratch_dir=None if settings.scratch_dir is None else str(settings.scratch_dir),
            encode_dir=None if settings.encode_dir is None else str(settings.encode_dir),
            keep_encodes=settings.keep_encodes,
            keep_reference=settings.keep_reference,
            per_frame_scores=settings.per_frame_scores,
        ),
        "compute": ComputeResource(scheduler=settings.scheduler, cores=settings.cores, memory_gib=settings.memory_gib),
    }
    return {name: dg.ResourceDefinition.hardcoded_resource(resource) for name, resource in configured.items()}
