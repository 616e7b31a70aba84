"""Two encoders on one data root: each has its rows, neither costs the other anything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.findings import quality_rises, recipes_mixed, row_errors
from frnr_assets.corpus.ingest import ingest
from frnr_assets.corpus.publish import publish, read_version
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets.corpus.store import to_polars
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellDone, Clip, ReferenceDone
from frnr_assets.media.pool import WorkPool
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings, open_toolchain
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.vocabulary import ENCODER_STATISTICS
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, MakeClip

X264, X264_CRFS = ("libx264", "medium"), (28,)
SVT, SVT_CRFS = ("libsvtav1", "10"), (45,)
# What differs between two measurements of the same cell.
TIMES = {"encode_time_ms", "score_time_ms", "timestamp", "run_id", "recorded_ns"}
MOS_SCALE = (1.0, 5.0)


@pytest.fixture(scope="module")
def svt(runner: ToolRunner) -> Toolchain:
    return open_toolchain(ToolSettings(encode_settings(*SVT, (), SVT_CRFS), vmaf_settings(), rules=RULES), runner)


def decode(engine: Engine, clips: Sequence[Clip]) -> list[ReferenceDone]:
    outcomes = list(engine.decode_references(clips))
    done = [outcome for outcome in outcomes if isinstance(outcome, ReferenceDone)]
    assert done == outcomes
    return sorted(done, key=lambda outcome: outcome.clip)


def measure(engine: Engine, clips: Sequence[Clip], crfs: Sequence[int], run_id: str = "run") -> list[CellDone]:
    outcomes = list(engine.measure_cells(dict.fromkeys(clips, crfs), run_id=run_id))
    done = [outcome for outcome in outcomes if isinstance(outcome, CellDone)]
    assert done == outcomes
    return sorted(done, key=lambda outcome: (outcome.clip, outcome.crf))


def measurements(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@dataclass(frozen=True)
class Both:
    """Clips that were decoded once and measured with both encoders."""

    x264: Engine
    svt: Engine
    clips: list[Clip]
    dataset: Dataset
    references: list[ReferenceDone]
    again: list[ReferenceDone]
    x264_cells: list[CellDone]
    svt_cells: list[CellDone]

    @property
    def tables(self) -> Tables:
        return self.x264.tables


@pytest.fixture
def both(engine: Engine, svt: Toolchain, pool: WorkPool, make_clip: MakeClip, tmp_path: Path) -> Both:
    folder = tmp_path / "clips"
    make_clip(folder / "plain.mp4")
    odd = SMALL_SCENE.replace("64x48", "67x49").replace("testsrc2", "testsrc")
    make_clip(folder / "odd.mkv", f"{odd},format=yuv444p", ("-c:v", "ffv1"))
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(
        "".join(json.dumps(row) + "\n" for row in ({"src": "plain.mp4", "mos": 3.5}, {"src": "odd.mkv"}))
    )
    dataset = Dataset(name="tests", manifest=manifest, clips_root=folder)
    ingest([dataset], engine.tables)
    rows = engine.tables.listed_clips().sort("clip").iter_rows(named=True)
    clips = [Clip(row["clip"], Path(row["src"]), row["mos"]) for row in rows]
    references = decode(engine, clips)
    x264_cells = measure(engine, clips, X264_CRFS, "x264")
    second = Engine(engine.tables, svt, pool)
    # Nothing that could decode is there.
    without_ffmpeg = replace(svt, ffmpeg=replace(svt.ffmpeg, path=Path("/missing/ffmpeg")))
    again = decode(replace(second, toolchain=without_ffmpeg), clips)
    svt_cells = measure(second, clips, SVT_CRFS, "svt")
    return Both(engine, second, clips, dataset, references, again, x264_cells, svt_cells)


def test_two_encoders_share_their_references_and_nothing_else(both: Both, tmp_path: Path) -> None:
    assert [done.outcome for done in both.references] == ["done", "done"]
    assert [done.outcome for done in both.again] == ["reused", "reused"]
    assert [cell.outcome for cell in (*both.x264_cells, *both.svt_cells)] == ["done"] * 4
    # The second encoder takes no 4:4:4.
    formats = [(cell.clip, cell.row["pix_fmt"], cell.row["width"]) for cell in (*both.x264_cells, *both.svt_cells)]
    assert formats == [
        *(("odd", "yuv444p", 67), ("plain", "yuv420p", 64)),
        *(("odd", "yuv420p", 66), ("plain", "yuv420p", 64)),
    ]

    alone = replace(both.svt, tables=Tables(tmp_path / "alone"))
    assert [done.outcome for done in decode(alone, both.clips)] == ["done", "done"]
    expected = measure(alone, both.clips, SVT_CRFS)
    assert measurements([cell.row for cell in both.svt_cells]) == measurements([cell.row for cell in expected])


def test_measuring_the_first_again_reuses_its_rows(both: Both) -> None:
    before, facts = both.tables.feature_rows.read(), both.tables.references.read()
    for engine, crfs, cells in (
        (both.x264, X264_CRFS, both.x264_cells),
        (both.svt, SVT_CRFS, both.svt_cells),
        (both.x264, X264_CRFS, both.x264_cells),
    ):
        assert [done.outcome for done in decode(engine, both.clips)] == ["reused", "reused"]
        again = measure(engine, both.clips, crfs, "again")
        assert [cell.outcome for cell in again] == ["reused", "reused"]
        assert measurements([cell.row for cell in again]) == measurements([cell.row for cell in cells])
    assert both.tables.feature_rows.read().equals(before)
    assert both.tables.references.read().equals(facts)


def test_equal_crfs_of_two_encoders_are_two_cells(both: Both) -> None:
    (cell,) = measure(both.svt, both.clips[:1], X264_CRFS)
    assert cell.outcome == "done"
    rows = both.tables.feature_rows.read().filter(pl.col("crf") == X264_CRFS[0], pl.col("clip") == cell.clip)
    assert rows["encoder"].sort().to_list() == ["libsvtav1", "libx264"]
    assert rows["identity"].n_unique() == 2


def test_the_rows_of_both_are_current_and_can_be_published(both: Both) -> None:
    ingest([both.dataset], both.tables)
    rows = both.tables.current_rows()
    assert rows.select("clip", "encoder", "preset", "crf", "nr_mos").rows() == [
        ("odd", "libsvtav1", "10", 45, None),
        ("odd", "libx264", "medium", 28, None),
        ("plain", "libsvtav1", "10", 45, 3.5),
        ("plain", "libx264", "medium", 28, 3.5),
    ]
    assert row_errors(ROW_SCHEMA, rows.select(ROW_SCHEMA.names), published=4, mos_scale=MOS_SCALE) == []
    assert recipes_mixed(rows) == []
    assert quality_rises(rows) == []

    publication = publish(both.tables.rows_to_publish(), both.tables.corpus, sweep=SVT_CRFS, mos_scale=MOS_SCALE)
    published = read_version(publication.path)
    assert publication.rows == 4
    corpus = to_polars(published)
    assert corpus.sort("src", "encoder").equals(rows.select(ROW_SCHEMA.names).sort("src", "encoder"))
    metadata = {name.decode(): value.decode() for name, value in (published.schema.metadata or {}).items()}
    assert metadata["encoder"] == "libsvtav1, libx264"
    assert metadata["preset"] == "10, medium"
    statistics = corpus.group_by("encoder").agg(pl.sum_horizontal(*ENCODER_STATISTICS).sum().alias("sum"))
    sums = dict(statistics.iter_rows())
    assert sums["libsvtav1"] == 0.0
    assert sums["libx264"] > 0.0


def test_a_replaced_file_takes_the_rows_of_both_away_until_both_are_measured(both: Both, make_clip: MakeClip) -> None:
    plain = next(clip for clip in both.clips if clip.key == "plain")
    make_clip(plain.src, SMALL_SCENE.replace("testsrc2", "testsrc"))
    ingest([both.dataset], both.tables)
    assert [done.outcome for done in decode(both.svt, [plain])] == ["done"]
    assert set(both.tables.current_rows()["clip"]) == {"odd"}
    assert [cell.outcome for cell in measure(both.svt, [plain], SVT_CRFS)] == ["done"]
    of_plain = both.tables.current_rows().filter(pl.col("clip") == "plain")
    assert of_plain["encoder"].to_list() == ["libsvtav1"]
    assert [cell.outcome for cell in measure(both.x264, [plain], X264_CRFS)] == ["done"]
    assert len(both.tables.current_rows()) == 4
