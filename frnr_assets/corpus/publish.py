"""Publishing all current feature rows as one Parquet dataset, atomically."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frnr_assets.corpus.contracts import FR_CONTRACT, Contract
from frnr_assets.corpus.findings import Finding, merged
from frnr_assets.corpus.locks import locked
from frnr_assets.corpus.schema import ROW_SCHEMA, SCHEMA_VERSION
from frnr_assets.corpus.sources import sources_of
from frnr_assets.corpus.store import sync, to_polars, write_parquet
from frnr_assets.corpus.tables import NotMaterialized
from frnr_assets.words import harmless

ROW_GROUP_ROWS = 64 * 1024
KEEP_VERSIONS = 3
CURRENT = "current"
# Of the rows of a file; its footer says so.
_ORDER = ("src", "encoder", "preset")
_SORTED_BY = [pq.SortingColumn(ROW_SCHEMA.names.index(name)) for name in _ORDER]
# The words and small numbers of a row repeat from row to row; its measurements do not, and a dictionary of them would
# only be on top.
DICTIONARY_COLUMNS = [
    "extra_params.list.element",
    *(field.name for field in ROW_SCHEMA if pa.types.is_string(field.type) or pa.types.is_int32(field.type)),
]


class CorpusInvalid(Exception):  # noqa: N818 - the name says what the corpus would be
    """The rows must not be published; what was published before is untouched.

    Attributes:
        findings: what is wrong.
    """

    def __init__(self, findings: Sequence[Finding]):
        super().__init__(harmless("; ".join(map(str, findings))))
        self.findings = tuple(findings)


class CorpusMissing(LookupError):  # noqa: N818 - the name says what there is not
    """There is no such version of a corpus; the message says what there is, or what makes it."""


@dataclass(frozen=True)
class Publication:
    """One published version.

    Attributes:
        path: its folder, whose name is the version's.
        rows: number of rows.
        size_bytes: of all its files.
        sources: its table of ``SOURCES_SCHEMA``.
    """

    path: Path
    rows: int
    size_bytes: int
    sources: pa.Table


def publish(
    rows: pl.DataFrame,
    folder: Path,
    *,
    sweep: Sequence[int],
    mos_scale: tuple[float, float],
    contract: Contract = FR_CONTRACT,
    keep_versions: int = KEEP_VERSIONS,
) -> Publication:
    """Write the rows as a new version, with a table of its sources, and make it the current one.

    The version is written beside the others, read back and judged; then the link ``current`` is replaced by a
    rename. File names differ between versions, so that a reader who listed the old version through the link can
    never get half of each. A version that can be seen has its table of sources, in a folder of its own, where nobody
    takes it for rows.

    Args:
        rows: at least one row, with the columns of the contract, ``dataset`` and ``clip``.
        folder: where versions, sources and link live.
        sweep: the configured CRFs, for the file metadata.
        mos_scale: lowest and highest possible MOS.
        contract: what the rows have to be.
        keep_versions: how many versions are kept, the newest, this one included; at least 1.

    Raises:
        CorpusInvalid: a rule of the contract is broken, or there is no row.
        OSError: the disk is full or the folder is not writable; the current version stays.
    """
    if rows.is_empty():
        raise CorpusInvalid([Finding("there is no row", (), 0)])
    versions = folder / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".publication.lock"):
        for abandoned in versions.glob(".*"):
            shutil.rmtree(abandoned)
        for abandoned in folder.glob(".current-*"):
            abandoned.unlink()
        # A number, because clocks can be set back.
        number = 1 + max((_number(version) for version in _versions(folder)), default=0)
        name = f"{number:06}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        staging = versions / f".{name}"
        staging.mkdir()
        try:
            _write(rows, staging, name, sweep, contract)
            errors = _errors(staging, rows, contract, mos_scale)
            if errors:
                raise CorpusInvalid(errors)  # noqa: TRY301 - what was staged goes away like after any other failure
            sources = sources_of(rows)
            sources_file(versions / name).parent.mkdir(exist_ok=True)
            write_parquet(sources, sources_file(versions / name))
        except BaseException:
            shutil.rmtree(staging)
            raise
        version = staging.rename(versions / name)
        sync(versions)
        link = folder / f".current-{name}"
        link.symlink_to(Path("versions") / name)
        link.replace(folder / CURRENT)
        sync(folder)
        for old in _versions(folder)[:-keep_versions]:
            shutil.rmtree(old)
        kept = set(map(sources_file, _versions(folder)))
        for outdated in set((folder / "sources").glob("*.parquet")) - kept:
            outdated.unlink()
    size = sum(file.stat().st_size for file in version.rglob("*.parquet"))
    return Publication(version, len(rows), size, sources)


def _versions(folder: Path) -> list[Path]:
    return sorted((folder / "versions").glob("[0-9]*"), key=_number)


def _number(version: Path) -> int:
    return int(version.name.partition("-")[0])


def find_version(folder: Path, name: str | None = None) -> Path:
    """Return the folder of a published version.

    Args:
        folder: where versions, sources and link live.
        name: the version's name; None for the current one.

    Raises:
        CorpusMissing: there is none of that name, or none at all.
    """
    current = current_version(folder)
    if current is None:
        raise CorpusMissing(
            harmless(
                f"{folder}: nothing is published there; materialize {folder.name} first, or name the data root that "
                "has it"
            )
        )
    if name is None:
        return current
    versions = {version.name: version for version in _versions(folder)}
    if name not in versions:
        raise CorpusMissing(
            harmless(f"{folder}: there is no version {name}; there are {', '.join(versions)}. Older ones are not kept")
        )
    return versions[name]


def sources_file(version: Path) -> Path:
    """Return the file of a version's sources, one row each, in the columns of ``SOURCES_SCHEMA``."""
    return version.parent.parent / "sources" / f"{version.name}.parquet"


def version_files(version: Path) -> list[Path]:
    """Return the files of a published version in the order of their CRFs."""
    return sorted(version.glob("crf=*/*.parquet"), key=lambda file: (crf_of(file), file.name))


def crf_of(file: Path) -> int:
    """Return the CRF of all rows of a file of a published version."""
    return int(file.parent.name.removeprefix("crf="))


def current_version(folder: Path) -> Path | None:
    """Return the folder of the current version, or None when nothing was published yet."""
    link = folder / CURRENT
    return link.resolve(strict=True) if link.is_symlink() else None


def require_version(folder: Path, made_by: str) -> Path:
    """Return the current version of a corpus.

    Args:
        folder: the corpus.
        made_by: the asset that publishes it.

    Raises:
        NotMaterialized: nothing was published yet.
    """
    version = current_version(folder)
    if version is None:
        raise NotMaterialized(f"there is no published corpus yet; materialize {made_by} first")
    return version


def published_rows(schema: pa.Schema) -> int:
    """Return how many rows were published, according to the file metadata of a version."""
    return int((schema.metadata or {}).get(b"rows", b"-1"))


def read_version(version: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a published version as it is on disk, or some columns; the schema carries the file metadata."""
    # "partitioning=None": crf is a column of the files too, so that each of them is complete on its own.
    dataset = pq.ParquetDataset(version_files(version), partitioning=None)
    return dataset.read(columns=None if columns is None else list(columns))


def _write(rows: pl.DataFrame, staging: Path, name: str, sweep: Sequence[int], contract: Contract) -> None:
    schema = contract.schema.with_metadata(file_metadata(rows, sweep, contract.caveat))
    for crf in rows["crf"].unique().sort():
        part = rows.filter(pl.col("crf") == crf).select(schema.names).sort(_ORDER)
        target = staging / f"crf={crf}"
        target.mkdir()
        file = target / f"{name}.parquet"
        pq.write_table(
            part.to_arrow().cast(schema),
            file,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            use_dictionary=DICTIONARY_COLUMNS,  # type: ignore[arg-type] # the stubs know only all or none
            sorting_columns=_SORTED_BY,
        )
        sync(file)
        sync(target)
    sync(staging)


def _errors(staging: Path, rows: pl.DataFrame, contract: Contract, mos_scale: tuple[float, float]) -> list[Finding]:
    """Judge what was written, file by file, because all of it at once takes much memory."""
    published = dict(rows["crf"].value_counts().iter_rows())
    files = version_files(staging)
    absent = sorted(published.keys() - set(map(crf_of, files)))
    found, sources = [Finding("a CRF has no file", tuple(map(str, absent)), len(absent))] if absent else [], []
    for file in files:
        # "partitioning=None": crf is a column of the files too, so that each of them is complete on its own.
        table = pq.read_table(file, partitioning=None)
        part = to_polars(table)
        found += contract.errors(table.schema, part, published=published[crf_of(file)], mos_scale=mos_scale)
        sources.append(part.select("src", "src_sha256", "fr_from_nr").unique())
    return merged(found) or contract.errors_across(pl.concat(sources))


def file_metadata(rows: pl.DataFrame, sweep: Sequence[int], caveat: str = FR_CONTRACT.caveat) -> dict[str, str]:
    """Return what the files of a corpus say of it: the caveat, schema version, sweep, row count, tools and models."""
    distinct = {
        name: ", ".join(sorted(rows[name].unique()))
        for name in ("encoder", "encoder_version", "preset", "vmaf_model", "ffmpeg_version", "vmaf_binary_version")
    }
    return {
        "caveat": caveat,
        "schema_version": str(SCHEMA_VERSION),
        "crf_sweep": json.dumps(list(sweep)),
        "rows": str(len(rows)),
        "published": datetime.now(UTC).isoformat(timespec="seconds"),
        **distinct,
    }
