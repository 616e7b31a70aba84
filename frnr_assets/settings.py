"""The configuration of one place: frnr.toml in the folder that everything is started in."""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from frnr_assets.containers import CONTAINERS, Container
from frnr_assets.corpus.backlog import Recipe
from frnr_assets.corpus.dataset import Columns, Dataset, FrDataset
from frnr_assets.corpus.manifests.entries import roots_of
from frnr_assets.corpus.publish import KEEP_VERSIONS
from frnr_assets.media.decode import KeptFormat
from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.process import TimeLimits, ToolError
from frnr_assets.media.sandbox import ProcessLimits
from frnr_assets.media.source import CODECS, DEFAULT_MIN_SIDE, SMALLEST_SIDE, SourceRules, unknown_codec
from frnr_assets.media.toolchain import ToolSettings, encode_settings
from frnr_assets.media.vmaf import VmafBackend, VmafSettings, is_path, vmaf_settings
from frnr_assets.vocabulary import (
    DEFAULT_CRF_SWEEP,
    DEFAULT_ENCODER,
    DEFAULT_PRESET,
    DEFAULT_VMAF_MODEL,
    EXTRA_FEATURES,
)

SETTINGS_FILE = "frnr.toml"

_SCHEDULER = re.compile(r"(tcp|tls|ws|wss)://[A-Za-z0-9._-]+:\d{1,5}|(tcp|tls|ws|wss)://\[[0-9A-Fa-f:.]+\]:\d{1,5}")


class SettingsError(ValueError):
    """frnr.toml cannot be used; the message names the file, the setting and the reason."""


class Automation(BaseModel):
    """What happens without a hand, once it is switched on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    running: bool = Field(default=False, description="on from the start, instead of when switched on in the UI")
    cron: str = Field("0 3 * * *", description="when the manifests are read again (UTC)")
    interval_seconds: int = Field(30, ge=1, description="seconds between two looks at what there is to do")
    queued_blocks: int = Field(2, ge=1, description="blocks of clips that are queued or running at once, per stage")
    retry_minutes: float = Field(60.0, ge=0, description="minutes before clips of a run that failed are tried again")
    publish_minutes: float = Field(60.0, ge=0, description="minutes between two publications while cells are measured")
    keep_history_days: int = Field(
        30, ge=1, description="days after which the events of a run that ended are cleared, where no status needs them"
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        # Only a schedule needs Dagster, which takes a second to load.
        from dagster._utils.schedules import is_valid_cron_schedule  # noqa: PLC0415

        if not is_valid_cron_schedule(cron):
            raise ValueError(f"{cron!r} is no cron schedule such as '0 3 * * *'")
        return cron


class Settings(BaseModel):
    """Everything that can be configured, with its default. Relative paths are relative to the file's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_root: Path = Field(Path("data"), description="folder for tables, corpus, scratch and kept encodes")
    datasets: tuple[Dataset, ...] = Field((), description="the no-reference datasets")
    fr_datasets: tuple[FrDataset, ...] = Field((), description="the full-reference datasets of mixed_corpus")
    allowed_roots: tuple[Path, ...] = Field((), description="folders that clips may be in besides the datasets' own")
    download_threads: int = Field(4, ge=1, description="downloads at once")
    download_failures_warn: float = Field(
        0.1, gt=0, le=1, description="fraction of failed downloads above which a check warns"
    )

    containers: Annotated[tuple[Container, ...], Field(min_length=1)] = Field(
        CONTAINERS, description="kinds of files that clips may be: mov (and mp4), matroska (and webm), avi, mpegts"
    )
    codecs: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        CODECS, description="video codecs that clips may have, by ffmpeg's names"
    )
    max_source_gib: float = Field(4.0, gt=0, description="size of the largest file of a clip, in GiB")
    max_pixels: int = Field(4096 * 4096, ge=1, description="width x height of the largest frame")
    max_frames: int = Field(18_000, ge=1, description="frames of the longest clip")
    max_gigapixels: float = Field(
        50.0, gt=0, description="width x height x frames of the longest clip, in thousand millions"
    )
    max_seconds: float = Field(600.0, gt=0, description="duration of the longest clip, in seconds")
    max_streams: int = Field(16, ge=1, le=1000, description="streams of any kind in one file")
    min_side: int = Field(
        DEFAULT_MIN_SIDE, ge=SMALLEST_SIDE, description="pixels of a frame's shortest side after the crop"
    )
    accept_damaged: bool = Field(
        default=False,
        description="take clips that decode with errors, as the decoder conceals them, and mark their references",
    )

    crf_sweep: Annotated[tuple[StrictInt, ...], Field(min_length=1)] = Field(
        DEFAULT_CRF_SWEEP, description="CRFs, ascending"
    )
    encoder: str = Field(DEFAULT_ENCODER, description=f"ffmpeg's name of the encoder: {', '.join(ENCODERS)}")
    preset: str = Field(DEFAULT_PRESET, description="encoder preset, one of the encoder's own")
    extra_params: tuple[str, ...] = Field((), description="further encoder arguments, one string each")
    sample_clip_seconds: float = Field(
        0.0, ge=0, description="encode and score only so many seconds, of a clip's centre; 0 for all of it"
    )
    vmaf_model: str = Field(
        DEFAULT_VMAF_MODEL,
        description="VMAF model: a version built into libvmaf, the path of a JSON model, or auto, the 4K model from "
        "2160 lines up",
    )
    vmaf_backend: VmafBackend = Field(
        "libvmaf", description="what scores: libvmaf, the one inside ffmpeg, or cli, a vmaf executable"
    )
    vmaf_path: str | None = Field(None, description="the vmaf executable for cli; default: the one on PATH")
    vmaf_args: tuple[str, ...] = Field((), description="further arguments for it, one string each")
    extra_features: tuple[str, ...] = Field(
        (), description=f"features for a table of their own: {', '.join(EXTRA_FEATURES)}"
    )
    per_frame_scores: bool = Field(
        default=False, description="keep VMAF and the canonical-6 of every frame, in a table of their own"
    )

    keep_encodes: bool = Field(default=False, description="keep the encodes")
    encode_dir: Path | None = Field(None, description="folder for them; default: encodes in data_root")
    keep_reference: KeptFormat | None = Field(None, description="keep the references: yuv (raw) or ffv1 (lossless)")
    scratch_dir: Path | None = Field(None, description="folder for what is deleted soon; default: scratch in data_root")

    keep_versions: int = Field(KEEP_VERSIONS, ge=2, description="published versions that are kept, the newest")

    ffmpeg_path: Path | None = Field(None, description="an ffmpeg to use; default: the one that imageio-ffmpeg brings")
    scheduler: str | None = Field(
        None, description="a Dask scheduler whose workers do the work; default: this machine does it"
    )
    cores: int | None = Field(None, ge=1, description="pieces of work at once; default: the cores this process may use")
    memory_gib: float | None = Field(
        None, gt=0, description="memory for them in GiB; default: 70 % of what is available"
    )
    tool_base_seconds: float = Field(120.0, gt=0, description="wall-clock limit of any program, in seconds")
    tool_seconds_per_megapixel: float = Field(
        2.0, gt=0, description="and as much more per million pixels of its frames"
    )
    tool_memory_gib: float = Field(8.0, ge=1, description="address space of any program, in GiB; more for large frames")
    tool_file_gib: float = Field(64.0, ge=0.1, description="size of any file that a program writes, in GiB")
    tool_open_files: int = Field(256, ge=64, description="files that a program may have open at once")

    automation: Automation = Field(Automation(), description="what happens without a hand")

    @field_validator("scheduler")
    @classmethod
    def _is_address(cls, scheduler: str | None) -> str | None:
        if scheduler is not None and not _SCHEDULER.fullmatch(scheduler):
            raise ValueError(f"{scheduler!r} is no address of a Dask scheduler such as 'tcp://host:8786'")
        return scheduler

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [
            *(dataset.name for dataset in self.datasets),
            *(dataset.name for dataset in self.fr_datasets),
        ]
        if len(set(names)) < len(names):
            raise ValueError("datasets must have different names, those of fr_datasets as well")
        if list(self.crf_sweep) != sorted(set(self.crf_sweep)):
            raise ValueError("crf_sweep must be ascending, each CRF once")
        unknown = unknown_codec(self.codecs)
        if unknown is not None:
            raise ValueError(f"codecs has {unknown}, which is no codec; by ffmpeg's names: {', '.join(CODECS)} ...")
        try:
            self.encode_settings()
            self.vmaf_settings()
        except ToolError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def mos_range(self) -> tuple[float, float]:
        """Lowest and highest possible MOS of any dataset; unbounded without a dataset."""
        scales = [dataset.mos_scale for dataset in self.datasets]
        return min((low for low, _ in scales), default=-math.inf), max((high for _, high in scales), default=math.inf)

    def encode_settings(self) -> EncodeSettings:
        """Return how distortions are made."""
        return encode_settings(self.encoder, self.preset, self.extra_params, self.crf_sweep, self.sample_clip_seconds)

    def vmaf_settings(self) -> VmafSettings:
        """Return how distortions are scored."""
        return vmaf_settings(self.vmaf_model, self.extra_features, self.vmaf_backend, self.vmaf_path, self.vmaf_args)

    def source_rules(self, datasets: Sequence[Dataset] | None = None) -> SourceRules:
        """Return which files may be sources.

        Args:
            datasets: those whose folders the sources may be in; None for all that are configured.
        """
        wanted = self.datasets if datasets is None else datasets
        return SourceRules(
            roots=roots_of(wanted, self.allowed_roots),
            max_bytes=int(self.max_source_gib * 2**30),
            containers=self.containers,
            codecs=self.codecs,
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_gigapixels=self.max_gigapixels,
            max_duration_s=self.max_seconds,
            max_streams=self.max_streams,
            min_side=self.min_side,
            accept_damaged=self.accept_damaged,
        )

    def tools(self, datasets: Sequence[Dataset] | None = None) -> ToolSettings:
        """Return which tools are used, and how, and on which files.

        Args:
            datasets: those whose sources are used; None for all that are configured.
        """
        return ToolSettings(
            encode=self.encode_settings(),
            vmaf=self.vmaf_settings(),
            limits=TimeLimits(self.tool_base_seconds, self.tool_seconds_per_megapixel),
            process=ProcessLimits(
                int(self.tool_memory_gib * 2**30), int(self.tool_file_gib * 2**30), self.tool_open_files
            ),
            rules=self.source_rules(datasets),
            ffmpeg_path=None if self.ffmpeg_path is None else str(self.ffmpeg_path),
        )

    def recipe(self) -> Recipe:
        """Return what the rows of a complete clip have been made with."""
        vmaf = self.vmaf_settings()
        return Recipe(
            sweep=self.crf_sweep,
            encoder=self.encoder,
            preset=self.preset,
            extra_params=self.extra_params,
            vmaf_models=tuple(model.name for model in vmaf.models.models),
            sample_clip_seconds=self.sample_clip_seconds,
            extra_features=vmaf.extra_features,
            conditions=self.tools().conditions,
            per_frame_scores=self.per_frame_scores,
        )


def _model_of(place: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model that a setting, known or not, would belong to."""
    match place:
        case ("datasets", _, "columns", _):
            return Columns
        case ("datasets", _, _):
            return Dataset
        case ("fr_datasets", _, _):
            return FrDataset
        case ("automation", _):
            return Automation
    return Settings


def in_words(error: ValidationError) -> str:
    """Return what is wrong with settings, in a sentence for each that is wrong."""
    problems = error.errors()
    # A list of which an element is wrong is not too short as well.
    wrong_within = {problem["loc"][:-1] for problem in problems if len(problem["loc"]) > 1}
    return "; ".join(
        _in_words(problem)
        for problem in problems
        if problem["type"] != "too_short" or problem["loc"] not in wrong_within
    )


def _in_words(problem: ErrorDetails) -> str:
    setting = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = _model_of(problem["loc"]).model_fields
        if near := get_close_matches(str(problem["loc"][-1]), known, n=1):
            return f"{setting}: there is no such setting; did you mean {near[0]}?"
        return f"{setting}: there is no such setting; there are {', '.join(known)}"
    message = problem["msg"].removeprefix("Value error, ").replace("tuple", "array")
    if problem["loc"][:1] == ("containers",):
        message += " (mov is mp4 too, matroska is webm too)"
    return f"{setting}: {message}" if setting else message


def load_settings(folder: Path, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read frnr.toml from a folder; without one, the defaults hold.

    Args:
        folder: the folder; relative paths are relative to it.
        flags: settings given on a command line, which go before those of the file.

    Raises:
        SettingsError: not readable, not TOML, an unknown setting, or a value that is not allowed.
    """
    path = folder.absolute() / SETTINGS_FILE
    given = flags or {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        settings = Settings.model_validate(_resolved({**values, **given}, path.parent))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML in UTF-8: {error}") from error
    except ValidationError as error:
        problems = error.errors()
        in_file = path.exists() and not all(problem["loc"] and problem["loc"][0] in given for problem in problems)
        where = f"{path}: " if in_file or not given else ""
        raise SettingsError(f"{where}{in_words(error)}") from None
    paths = {name: getattr(settings, name) for name in ("data_root", "scratch_dir", "encode_dir", "ffmpeg_path")}
    absolute: dict[str, object] = {name: path.parent / value for name, value in paths.items() if value is not None}
    absolute["datasets"] = tuple(dataset.under(path.parent) for dataset in settings.datasets)
    absolute["fr_datasets"] = tuple(dataset.under(path.parent) for dataset in settings.fr_datasets)
    absolute["allowed_roots"] = tuple(path.parent / root for root in settings.allowed_roots)
    return settings.model_copy(update=absolute)


def _resolved(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make those paths absolute that a setting may hold instead of a name: they are looked at when it is checked."""
    found = {name: values.get(name) for name in ("vmaf_model", "vmaf_path")}
    paths = {name: str(folder / value) for name, value in found.items() if isinstance(value, str) and is_path(value)}
    return {**values, **paths}
