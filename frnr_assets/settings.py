"""The configuration of one place: frnr.toml in the folder that everything is started in."""

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator
from pydantic_core import ErrorDetails

from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.process import ToolError
from frnr_assets.media.reference import KeptFormat
from frnr_assets.media.toolchain import encode_settings
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP, DEFAULT_ENCODER, DEFAULT_PRESET, DEFAULT_VMAF_MODEL

SETTINGS_FILE = "frnr.toml"


class SettingsError(ValueError):
    """frnr.toml cannot be used; the message names the file, the setting and the reason."""


class Settings(BaseModel):
    """Everything that can be configured, with its default. Relative paths are relative to the file's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_root: Path = Field(Path("data"), description="folder for tables, corpus, scratch and kept encodes")
    manifest: Path = Field(Path("data/manifest.jsonl"), description="JSON Lines manifest of the clips")
    clips_root: Path | None = Field(None, description="folder that relative sources are in; default: the manifest's")
    dataset: str = Field("nr", min_length=1, description="name of the dataset")
    mos_scale: tuple[float, float] = Field((1.0, 5.0), description="lowest and highest possible MOS")

    crf_sweep: Annotated[tuple[StrictInt, ...], Field(min_length=1)] = Field(
        DEFAULT_CRF_SWEEP, description="CRFs, ascending"
    )
    encoder: str = Field(DEFAULT_ENCODER, description="ffmpeg's name of the encoder")
    preset: str = Field(DEFAULT_PRESET, description="encoder preset")
    extra_params: tuple[str, ...] = Field((), description="further encoder arguments, one string each")
    vmaf_model: str = Field(DEFAULT_VMAF_MODEL, pattern=r"^[\w.]+$", description="VMAF model built into libvmaf")

    keep_encodes: bool = Field(default=False, description="keep the encodes, under data_root/encodes")
    keep_reference: KeptFormat | None = Field(None, description="keep the references: yuv (raw) or ffv1 (lossless)")

    ffmpeg_path: Path | None = Field(None, description="an ffmpeg to use; default: the one that imageio-ffmpeg brings")
    cores: int | None = Field(None, ge=1, description="pieces of work at once; default: the cores this process may use")
    memory_gib: float | None = Field(
        None, gt=0, description="memory for them in GiB; default: 70 % of what is available"
    )
    tool_base_seconds: float = Field(120.0, gt=0, description="wall-clock limit of any program, in seconds")
    tool_seconds_per_megapixel: float = Field(
        2.0, gt=0, description="and as much more per million pixels of its frames"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.crf_sweep) != sorted(set(self.crf_sweep)):
            raise ValueError("crf_sweep must be ascending, each CRF once")
        if self.mos_scale[0] >= self.mos_scale[1]:
            raise ValueError("mos_scale must be [lowest, highest]")
        try:
            self.encode_settings()
        except ToolError as error:
            raise ValueError(str(error)) from error
        return self

    def encode_settings(self) -> EncodeSettings:
        """Return how distortions are made."""
        return encode_settings(self.encoder, self.preset, self.extra_params, self.crf_sweep)


def _in_words(problem: ErrorDetails) -> str:
    setting = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{setting}: there is no such setting; there are {', '.join(Settings.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ").replace("tuple", "array")
    return f"{setting}: {message}" if setting else message


def load_settings(folder: Path) -> Settings:
    """Read frnr.toml from a folder; without one, the defaults hold.

    Raises:
        SettingsError: not readable, not TOML, an unknown setting, or a value that is not allowed.
    """
    path = folder.absolute() / SETTINGS_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        settings = Settings.model_validate(values)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML in UTF-8: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {'; '.join(map(_in_words, error.errors()))}") from None
    paths = {name: getattr(settings, name) for name in ("data_root", "manifest", "clips_root", "ffmpeg_path")}
    absolute = {name: path.parent / value for name, value in paths.items() if value is not None}
    return settings.model_copy(update=absolute)
