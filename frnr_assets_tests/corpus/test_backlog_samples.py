"""What is still to be done when clips are sampled, scored with one of two models, or have extra features or frames."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.corpus.backlog import Backlog, Recipe, backlog
from frnr_assets.corpus.tables import Tables
from frnr_assets.media.reference import excerpt
from frnr_assets.settings import Settings
from frnr_assets.vocabulary import EXTRA_FEATURES, UHD_LINES, UHD_VMAF_MODEL
from frnr_assets_tests.corpus.rows import SWEEP, feature_row, frame_scores_row, reference_row
from frnr_assets_tests.corpus.test_backlog import CONDITIONS, QUARANTINED, clip_row

SECONDS = 5.0
RECIPE = Recipe(
    SWEEP,
    encoder="encoder",
    preset="preset",
    extra_params=(),
    vmaf_models=("vmaf_model",),
    conditions=CONDITIONS,
)
SAMPLED = replace(RECIPE, sample_clip_seconds=SECONDS)
# Of eight seconds, of exactly five, and of three.
LENGTHS = {"long": 240, "as long": 150, "short": 90}
SMALL, LARGE = {"width": 64, "height": 48}, {"width": 640, "height": 360}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def decode(tables: Tables, *clips: str, **facts: Any) -> None:
    """List clips, and record what was found when they were decoded."""
    listed = {row["clip"]: row for row in (tables.clips.read().to_dicts() if tables.clips.exists() else ())}
    tables.clips.write([*listed.values(), *(clip_row(clip) for clip in clips if clip not in listed)])
    rate = {"rate_num": 30, "rate_den": 1}
    tables.references.append([reference_row(clip, **{**rate, **facts}) for clip in clips])


def measure(tables: Tables, *clips: str, crfs: Sequence[int] = SWEEP, **made_with: Any) -> None:
    tables.feature_rows.append([feature_row(clip, crf, **made_with) for clip in clips for crf in crfs])


def columns_of(features: Iterable[str]) -> list[str]:
    return [column for name in features for column in EXTRA_FEATURES[name].columns]


def compute(tables: Tables, clip: str, features: Iterable[str], crfs: Sequence[int] = SWEEP, **made_with: Any) -> None:
    """Record extra features of the rows that ``measure`` records."""
    made = [feature_row(clip, crf, **made_with) for crf in crfs]
    names = ("clip", "encoder", "preset", "crf", "identity", "src_sha256")
    tables.extra_features.append(
        [
            {**{name: row[name] for name in names}, "feature": column, "mean": 1.0, "std": 0.0}
            for row in made
            for column in columns_of(features)
        ]
    )


def lengths(tables: Tables) -> None:
    for clip, frames in LENGTHS.items():
        decode(tables, clip, frames=frames)


class TestSamples:
    def test_long_clips_need_rows_of_the_sample_and_others_rows_of_the_whole(self, tables: Tables) -> None:
        lengths(tables)
        measure(tables, "long", clip_mode="sample_5s")
        measure(tables, "as long", "short", clip_mode="full")
        assert backlog(tables, SAMPLED) == Backlog(frozenset(), frozenset(), frozenset(), complete=3)
        assert backlog(tables, RECIPE).to_measure == {"long"}

    @pytest.mark.parametrize(
        ("mode", "lacking"),
        [
            ("full", {"long"}),
            ("sample_5s", {"as long", "short"}),
            ("sample_2s", set(LENGTHS)),
            ("sample_50s", set(LENGTHS)),
            ("sample_5", set(LENGTHS)),
        ],
    )
    def test_rows_of_another_part_of_a_clip_do_not_count(self, tables: Tables, mode: str, lacking: set[str]) -> None:
        lengths(tables)
        measure(tables, *LENGTHS, clip_mode=mode)
        found = backlog(tables, SAMPLED)
        assert found.to_measure == lacking
        assert found.complete == len(LENGTHS) - len(lacking)

    def test_a_clip_of_which_some_rows_are_of_another_part_is_not_complete(self, tables: Tables) -> None:
        lengths(tables)
        measure(tables, *LENGTHS, clip_mode="full")
        measure(tables, "long", crfs=SWEEP[1:], clip_mode="sample_5s")
        assert backlog(tables, SAMPLED).to_measure == {"long"}
        measure(tables, "long", crfs=SWEEP[:1], clip_mode="sample_5s")
        assert backlog(tables, SAMPLED).to_measure == set()

    @pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 2.5, 4.004, 10.0])
    def test_every_clip_is_sampled_or_not_just_as_the_engine_samples_it(self, tables: Tables, seconds: float) -> None:
        draw = random.Random(str(seconds))
        clips, modes = dict[str, dict[str, int]](), dict[str, str]()
        for number in range(300):
            rate = Fraction(draw.choice([24, 25, 30, 50, 60]) * 1000, draw.choice([1000, 1001]))
            # Close to the length of the sample, where it matters.
            frames = max(1, round(seconds * rate) + draw.randint(-2, 2))
            clips[f"c{number}"] = {"frames": frames, "rate_num": rate.numerator, "rate_den": rate.denominator}
            modes[f"c{number}"] = excerpt(frames, rate, seconds).clip_mode
        assert set(modes.values()) == {"full", f"sample_{seconds:g}s"}
        tables.clips.write([clip_row(clip) for clip in clips])
        tables.references.append([reference_row(clip, **facts) for clip, facts in clips.items()])
        recipe = replace(RECIPE, sample_clip_seconds=seconds)
        tables.feature_rows.append([feature_row(clip, crf, clip_mode=modes[clip]) for clip in clips for crf in SWEEP])
        assert backlog(tables, recipe).to_measure == set()
        other = {"full": f"sample_{seconds:g}s", f"sample_{seconds:g}s": "full"}
        tables.feature_rows.append(
            [feature_row(clip, crf, clip_mode=other[modes[clip]]) for clip in clips for crf in SWEEP]
        )
        assert backlog(tables, recipe).to_measure == set(clips)


class TestModels:
    TWO = replace(RECIPE, vmaf_models=("one", "two"))

    @pytest.mark.parametrize(("lines", "model"), [(1080, "one"), (UHD_LINES - 1, "one"), (UHD_LINES, "two")])
    def test_rows_of_the_model_for_their_height_count_and_of_others_not(
        self, tables: Tables, lines: int, model: str
    ) -> None:
        for scored_with in ("one", "two", "three"):
            decode(tables, scored_with, height=lines)
            measure(tables, scored_with, vmaf_model=scored_with, height=lines)
        found = backlog(tables, self.TWO)
        assert found.to_measure == {"one", "two", "three"} - {model}
        assert found.complete == 1

    def test_a_clip_needs_its_whole_sweep(self, tables: Tables) -> None:
        decode(tables, "a")
        measure(tables, "a", crfs=SWEEP[:1], vmaf_model="one")
        assert backlog(tables, self.TWO).to_measure == {"a"}
        measure(tables, "a", crfs=SWEEP[1:], vmaf_model="three")
        assert backlog(tables, self.TWO).to_measure == {"a"}
        measure(tables, "a", crfs=SWEEP[1:], vmaf_model="one")
        assert backlog(tables, self.TWO).complete == 1

    @pytest.mark.parametrize(
        ("height", "scored_with", "is_complete"),
        [
            (UHD_LINES - 2, "vmaf_v0.6.1", True),
            (UHD_LINES - 2, UHD_VMAF_MODEL, False),
            (UHD_LINES, "vmaf_v0.6.1", False),
            (UHD_LINES, UHD_VMAF_MODEL, True),
        ],
    )
    def test_with_an_automatic_model_a_clip_needs_rows_of_the_one_for_its_height(
        self, tables: Tables, height: int, scored_with: str, is_complete: bool
    ) -> None:
        settings = Settings(vmaf_model="auto", crf_sweep=SWEEP)
        recipe = settings.recipe()
        decode(tables, "a", width=3840, height=height)
        made_with: dict[str, Any] = {"encoder": recipe.encoder, "preset": recipe.preset, "vmaf_model": scored_with}
        measure(tables, "a", **made_with, width=3840, height=height)
        assert backlog(tables, recipe).to_measure == (set() if is_complete else {"a"})


class TestExtraFeatures:
    EVERYTHING = tuple(EXTRA_FEATURES)

    @staticmethod
    def wanting(*features: str) -> Recipe:
        return replace(RECIPE, extra_features=features)

    def test_clips_that_lack_values_are_to_measure_although_they_have_their_rows(self, tables: Tables) -> None:
        decode(tables, "with", "without", "not measured")
        measure(tables, "with", "without")
        compute(tables, "with", ("psnr", "ssim"))
        found = backlog(tables, self.wanting("psnr", "ssim"))
        assert found.to_measure == {"without", "not measured"}
        assert found.complete == 1
        assert backlog(tables, RECIPE).to_measure == {"not measured"}

    @pytest.mark.parametrize(
        ("features", "crfs"),
        [(("psnr",), SWEEP), (("ssim",), SWEEP), (("psnr", "ssim"), SWEEP[1:]), ((), SWEEP)],
        ids=["one feature", "the other", "not all CRFs", "none"],
    )
    def test_a_clip_needs_every_feature_at_every_crf(
        self, tables: Tables, features: Sequence[str], crfs: Sequence[int]
    ) -> None:
        decode(tables, "a")
        measure(tables, "a")
        compute(tables, "a", features, crfs)
        assert backlog(tables, self.wanting("psnr", "ssim")).to_measure == {"a"}
        compute(tables, "a", ("psnr", "ssim"))
        assert backlog(tables, self.wanting("psnr", "ssim")).complete == 1

    def test_features_and_crfs_that_nobody_asks_for_make_up_for_none(self, tables: Tables) -> None:
        decode(tables, "a")
        measure(tables, "a", crfs=(*SWEEP, 51))
        compute(tables, "a", self.EVERYTHING, (51, *SWEEP[1:]))
        assert backlog(tables, self.wanting("psnr")).to_measure == {"a"}
        compute(tables, "a", ("psnr",), SWEEP[:1])
        assert backlog(tables, self.wanting("psnr")).complete == 1

    @pytest.mark.parametrize(
        ("size", "undefined"),
        [
            ({"width": 64, "height": 48}, ("ms_ssim", "cambi")),
            ({"width": 174, "height": 216}, ("ms_ssim",)),
            ({"width": 216, "height": 174}, ("ms_ssim",)),
            ({"width": 214, "height": 214}, ("cambi",)),
            ({"width": 216, "height": 176}, ()),
        ],
        ids=lambda value: "x".join(map(str, value.values())) if isinstance(value, dict) else None,
    )
    def test_a_clip_that_is_too_small_for_some_is_complete_with_the_others(
        self, tables: Tables, size: dict[str, Any], undefined: Sequence[str]
    ) -> None:
        decode(tables, "a", **size)
        measure(tables, "a", **size)
        defined = [name for name in self.EVERYTHING if name not in undefined]
        compute(tables, "a", defined[1:])
        assert backlog(tables, self.wanting(*self.EVERYTHING)).to_measure == {"a"}
        compute(tables, "a", defined[:1])
        assert backlog(tables, self.wanting(*self.EVERYTHING)).complete == 1

    def test_a_clip_that_is_too_small_for_all_needs_none(self, tables: Tables) -> None:
        decode(tables, "small", **SMALL)
        decode(tables, "large", **LARGE)
        measure(tables, "small", "large")
        assert backlog(tables, self.wanting("ms_ssim", "cambi")).to_measure == {"large"}

    def test_a_clip_in_quarantine_needs_none(self, tables: Tables) -> None:
        decode(tables, "a", **QUARANTINED)
        found = backlog(tables, self.wanting("psnr"))
        assert found.to_measure == set()
        assert found.quarantined == {"a"}
        assert found.complete == 0

    @pytest.mark.parametrize(
        "of_another",
        [{"encoder": "libx265"}, {"preset": "slow"}, {"src_sha256": "1" * 64}],
        ids=["encoder", "preset", "file"],
    )
    def test_values_of_other_rows_do_not_count(self, tables: Tables, of_another: dict[str, Any]) -> None:
        decode(tables, "a")
        measure(tables, "a")
        compute(tables, "a", ("psnr",), identity="another", **of_another)
        assert backlog(tables, self.wanting("psnr")).to_measure == {"a"}

    def test_values_of_rows_that_were_measured_anew_do_not_count(self, tables: Tables) -> None:
        # As when they were asked for with one model, and then with another one, after rows of that without them.
        decode(tables, "a")
        compute(tables, "a", ("psnr",))
        measure(tables, "a")
        assert backlog(tables, self.wanting("psnr")).complete == 1
        tables.feature_rows.append([feature_row("a", crf, identity=f"anew-{crf}") for crf in SWEEP])
        assert backlog(tables, self.wanting("psnr")).to_measure == {"a"}

    def test_a_feature_that_is_asked_for_twice_is_needed_once(self, tables: Tables) -> None:
        recipe = Settings(extra_features=("ssim", "psnr", "ssim"), crf_sweep=SWEEP).recipe()
        made_with: dict[str, Any] = {
            "encoder": recipe.encoder,
            "preset": recipe.preset,
            "vmaf_model": recipe.vmaf_models[0],
        }
        decode(tables, "a")
        measure(tables, "a", **made_with)
        compute(tables, "a", ("psnr", "ssim"), encoder=recipe.encoder, preset=recipe.preset)
        assert backlog(tables, recipe).complete == 1

    def test_samples_and_extra_features_go_together(self, tables: Tables) -> None:
        lengths(tables)
        measure(tables, "long", clip_mode="sample_5s")
        measure(tables, "as long", "short")
        recipe = replace(SAMPLED, extra_features=("ssim",))
        for clip in LENGTHS:
            assert clip in backlog(tables, recipe).to_measure
            compute(tables, clip, ("ssim",))
        assert backlog(tables, recipe).complete == len(LENGTHS)


class TestFrames:
    RECIPE = replace(RECIPE, per_frame_scores=True)

    @pytest.mark.parametrize("crfs", [(), SWEEP[1:]], ids=["no cell", "not all CRFs"])
    def test_a_clip_needs_the_frames_of_every_cell_although_it_has_its_rows(
        self, tables: Tables, crfs: Sequence[int]
    ) -> None:
        decode(tables, "a", "not measured")
        measure(tables, "a")
        if crfs:
            tables.frame_scores.append([frame_scores_row("a", crf) for crf in crfs])
        assert backlog(tables, self.RECIPE).to_measure == {"a", "not measured"}
        assert backlog(tables, RECIPE).to_measure == {"not measured"}
        tables.frame_scores.append([frame_scores_row("a", crf) for crf in SWEEP if crf not in crfs])
        found = backlog(tables, self.RECIPE)
        assert found.to_measure == {"not measured"}
        assert found.complete == 1

    @pytest.mark.parametrize(
        "of_another",
        [{"encoder": "libx265"}, {"crf": 51}, {"identity": "another model"}],
        ids=lambda of: next(iter(of)),
    )
    def test_frames_of_other_rows_do_not_count(self, tables: Tables, of_another: dict[str, Any]) -> None:
        decode(tables, "a")
        measure(tables, "a")
        cells = [frame_scores_row("a", crf) for crf in SWEEP]
        cells[0] |= {"identity": "another", **of_another}
        tables.frame_scores.append(cells)
        assert backlog(tables, self.RECIPE).to_measure == {"a"}

    def test_frames_and_extra_features_are_each_missed_alone(self, tables: Tables) -> None:
        decode(tables, "frames", "features", "both")
        measure(tables, "frames", "features", "both")
        tables.frame_scores.append([frame_scores_row(clip, crf) for clip in ("frames", "both") for crf in SWEEP])
        for clip in ("features", "both"):
            compute(tables, clip, ("ssim",))
        found = backlog(tables, replace(self.RECIPE, extra_features=("ssim",)))
        assert found.to_measure == {"frames", "features"}
        assert found.complete == 1
