"""What a no-reference dataset declares about itself."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

ManifestFormat = Literal["jsonl", "csv", "konvid-150k"]

# A source may be made of several columns, as in "{flickr_id}.mp4".
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class Columns(BaseModel):
    """Which column of a manifest is which; what is left out is recognised by its usual spellings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    src: str | None = Field(
        None, min_length=1, description="column of the clip's path, or a pattern such as {flickr_id}.mp4"
    )
    mos: str | None = Field(None, min_length=1, description="column of the MOS")
    mos_std_dev: str | None = Field(None, min_length=1, description="column of the ratings' standard deviation")
    n_ratings: str | None = Field(None, min_length=1, description="column of the number of ratings")
    split: str | None = Field(None, min_length=1, description="column of the dataset's own split")
    url: str | None = Field(None, min_length=1, description="column of the address a missing clip is downloaded from")


class Dataset(BaseModel):
    """One no-reference dataset: its manifest, its clips, its scale."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        description="name of the dataset"
    )
    manifest: Path = Field(description="JSON Lines or CSV file, or the folder of a KonViD-150k score drop")
    format: ManifestFormat | None = Field(
        None, description="`jsonl`, `csv` or `konvid-150k`; recognised when it is left out"
    )
    clips_root: Path | None = Field(None, description="folder of the clips; default: the manifest's folder")
    mos_scale: tuple[float, float] = Field((1.0, 5.0), description="lowest and highest possible MOS")
    expected_clips: int | None = Field(None, ge=1, description="how many clips it should have; a check compares")
    licence: str | None = Field(None, min_length=1, description="under which licence it came, for the dataset card")
    columns: Columns = Field(Columns(), description="which column is which, where the spelling is unusual")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mos_scale[0] >= self.mos_scale[1]:
            raise ValueError("mos_scale must be [lowest, highest]")
        return self

    def under(self, folder: Path) -> Self:
        """Return the dataset with its relative paths made absolute: they are relative to this folder."""
        root = None if self.clips_root is None else folder / self.clips_root
        return self.model_copy(update={"manifest": folder / self.manifest, "clips_root": root})


class FrDataset(BaseModel):
    """One full-reference dataset: rows that somebody else has measured against masters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        description="name of the dataset"
    )
    rows: Path = Field(description="its rows, in JSON Lines (.jsonl) or Parquet (.parquet)")
    licence: str | None = Field(None, min_length=1, description="under which licence it came, for the dataset card")

    @field_validator("rows")
    @classmethod
    def _known_format(cls, rows: Path) -> Path:
        if rows.suffix not in {".jsonl", ".parquet"}:
            raise ValueError(f"{rows} ends in neither .jsonl nor .parquet")
        return rows

    def under(self, folder: Path) -> Self:
        """Return the dataset with its relative path made absolute: it is relative to this folder."""
        return self.model_copy(update={"rows": folder / self.rows})
