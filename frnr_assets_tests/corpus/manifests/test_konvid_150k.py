from pathlib import Path

import pytest

from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.ingest import DatasetRefused, what_changed
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets_tests.corpus.manifests import Disk

A, B = "k150ka", "k150kb"
SCORES = {
    A: "video_name,video_score\norig_1_540p.mp4,3.62\norig_2_540p.mp4,2.4000000000000004\n",
    B: "video_name,mos,video_score\norig_3_540p.mp4,4.1,0.77\n",
}
CLIPS = {A: ["orig_1_540p", "orig_2_540p"], B: ["orig_3_540p"]}
MOS = {A: {"orig_1_540p": 3.62, "orig_2_540p": 2.4000000000000004}, B: {"orig_3_540p": 4.1}}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def _drop(disk: Disk, *sets: str, clips_root: str = "k") -> Dataset:
    for name in sets:
        disk.write(f"k/{name}_scores.csv", SCORES[name])
        disk.clips(*(f"{clips_root}/{name}_extracted/{clip}.mp4" for clip in CLIPS[name]))
    return Dataset(name="k", manifest=disk.root / "k", clips_root=None if clips_root == "k" else disk.root / clips_root)


@pytest.mark.parametrize("sets", [(A,), (B,), (A, B)], ids=str)
@pytest.mark.parametrize("clips_root", ["k", "elsewhere"])
def test_the_score_drop_is_ingested_as_it_was_unpacked(disk: Disk, sets: tuple[str, ...], clips_root: str) -> None:
    disk.ingest(_drop(disk, *sets, clips_root=clips_root))
    found = {row["clip"]: row["mos"] for row in disk.listed().values()}
    assert found == {clip: mos for name in sets for clip, mos in MOS[name].items()}
    assert set(disk.listed()) == {f"{name}_extracted/{clip}.mp4" for name in sets for clip in CLIPS[name]}
    assert disk.rejects() == []


def test_the_second_set_can_come_later(disk: Disk) -> None:
    dataset = _drop(disk, A)
    disk.ingest(dataset)
    keys = disk.keys()
    assert what_changed([dataset], disk.tables) == []
    _drop(disk, B)
    assert what_changed([dataset], disk.tables) == [str(disk.root / "k/k150kb_scores.csv")]
    assert disk.ingest(dataset).changes["new clips"] == 1
    assert disk.keys().items() > keys.items()


def test_a_clip_name_that_both_sets_have_is_two_clips(disk: Disk) -> None:
    dataset = _drop(disk, A, B)
    disk.clips("k/k150kb_extracted/orig_1_540p.mp4")
    disk.write("k/k150kb_scores.csv", "video_name,mos\norig_1_540p.mp4,1.5\n")
    disk.ingest(dataset)
    assert sorted(row["mos"] for row in disk.listed().values() if row["clip"].startswith("orig_1_540p~")) == [1.5, 3.62]


def test_a_row_is_found_by_the_score_file_it_is_in(disk: Disk) -> None:
    dataset = _drop(disk, A, B)
    (disk.root / "k/k150kb_extracted/orig_3_540p.mp4").unlink()
    disk.ingest(dataset)
    (reject,) = disk.tables.rejects.read().iter_rows(named=True)
    assert (reject["manifest"], reject["line"]) == (str(disk.root / "k/k150kb_scores.csv"), 2)


@pytest.mark.parametrize(
    ("declared", "message"), [(None, "name the manifest file itself"), ("konvid-150k", "k150ka_scores.csv")]
)
def test_a_folder_without_a_score_file_is_refused(disk: Disk, declared: str | None, message: str) -> None:
    disk.clips("k/k150ka_extracted/orig_1_540p.mp4")
    dataset = Dataset.model_validate({"name": "k", "manifest": disk.root / "k", "format": declared})
    for refusing in (lambda: disk.ingest(dataset), lambda: what_changed([dataset], disk.tables)):
        with pytest.raises(ManifestError, match=message):
            refusing()


def test_clips_on_a_disk_that_is_not_mounted_are_not_removed(disk: Disk) -> None:
    dataset = _drop(disk, A, B)
    disk.ingest(dataset)
    before = disk.listed()
    (disk.root / "k/k150kb_extracted").rename(disk.root / "unmounted")
    with pytest.raises(ManifestError, match=r"k150kb_extracted: .* mount its disk"):
        disk.ingest(dataset)
    assert disk.listed() == before


def test_a_drop_whose_score_files_are_away_holds_up_no_other_dataset(disk: Disk) -> None:
    disk.clips("k/k150ka_extracted/a.mp4", "l/b.mp4", "l/c.mp4")
    drop = disk.dataset("k/k150ka_scores.csv", "video_name,video_score\na.mp4,3\n").model_copy(
        update={"name": "drop", "manifest": disk.root / "k"}
    )
    other = disk.jsonl("b.mp4", path="l/m.jsonl").model_copy(update={"name": "other"})
    disk.ingest(drop, other)
    (disk.root / "k/k150ka_scores.csv").unlink()
    other = disk.jsonl("b.mp4", "c.mp4", path="l/m.jsonl").model_copy(update={"name": "other"})
    with pytest.raises(DatasetRefused, match="no KonViD-150k score file"):
        disk.ingest(drop, other)
    assert sorted(disk.listed()) == ["b.mp4", "c.mp4", "k150ka_extracted/a.mp4"]
