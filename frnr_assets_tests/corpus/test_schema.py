import pyarrow as pa
import pytest

from frnr_assets.corpus.schema import (
    CLIPS_SCHEMA,
    CORPUS_ROW_KEYS,
    EXTRA_FEATURES_KEY,
    EXTRA_FEATURES_SCHEMA,
    FEATURE_ROWS_KEY,
    FEATURE_ROWS_SCHEMA,
    FRAME_SCORES_KEY,
    FRAME_SCORES_SCHEMA,
    PROVENANCE_KEYS,
    REFERENCES_KEY,
    REFERENCES_SCHEMA,
    ROW_SCHEMA,
    SCHEMA_VERSION,
)

INTEGERS = {
    "schema_version",
    "width",
    "height",
    "crf",
    "encode_size_bytes",
    "exit_status",
    "shot_count",
}
STRINGS = {
    "run_id",
    "timestamp",
    "src",
    "src_sha256",
    "pix_fmt",
    "encoder",
    "encoder_version",
    "preset",
    "encode_path",
    "vmaf_model",
    "ffmpeg_version",
    "vmaf_binary_version",
    "clip_mode",
    "hdr_transfer",
    "hdr_primaries",
    "nr_source",
}
BOOLEANS = {"hdr_forced", "fr_from_nr"}

CORPUS_ROW = (
    "schema_version",
    "run_id",
    "timestamp",
    "src",
    "src_sha256",
    "width",
    "height",
    "pix_fmt",
    "framerate",
    "duration_s",
    "encoder",
    "encoder_version",
    "preset",
    "crf",
    "extra_params",
    "encode_path",
    "encode_size_bytes",
    "bitrate_kbps",
    "encode_time_ms",
    "vmaf_score",
    "vmaf_model",
    "score_time_ms",
    "ffmpeg_version",
    "vmaf_binary_version",
    "exit_status",
    "clip_mode",
    "hdr_transfer",
    "hdr_primaries",
    "hdr_forced",
    "shot_count",
    "shot_avg_duration_sec",
    "shot_duration_std_sec",
    "adm2_mean",
    "vif_scale0_mean",
    "vif_scale1_mean",
    "vif_scale2_mean",
    "vif_scale3_mean",
    "motion2_mean",
    "adm2_std",
    "vif_scale0_std",
    "vif_scale1_std",
    "vif_scale2_std",
    "vif_scale3_std",
    "motion2_std",
    "enc_internal_qp_mean",
    "enc_internal_qp_std",
    "enc_internal_bits_mean",
    "enc_internal_bits_std",
    "enc_internal_mv_mean",
    "enc_internal_mv_std",
    "enc_internal_itex_mean",
    "enc_internal_ptex_mean",
    "enc_internal_intra_ratio",
    "enc_internal_skip_ratio",
)
PROVENANCE = ("nr_source", "nr_mos", "fr_from_nr")
CONTRACT = (*CORPUS_ROW, *PROVENANCE)


def test_trainers_find_exactly_the_contracts_columns_in_its_order() -> None:
    assert tuple(ROW_SCHEMA.names) == CONTRACT
    assert CORPUS_ROW_KEYS == CORPUS_ROW
    assert PROVENANCE_KEYS == PROVENANCE
    assert SCHEMA_VERSION == 3


def test_only_the_mos_of_a_row_may_be_missing() -> None:
    assert [field.name for field in ROW_SCHEMA if field.nullable] == ["nr_mos"]


@pytest.mark.parametrize("name", CONTRACT)
def test_every_column_has_the_type_that_trainers_expect(name: str) -> None:
    found = ROW_SCHEMA.field(name).type
    if name == "extra_params":
        assert pa.types.is_list(found)
        assert pa.types.is_string(found.value_type)
        assert not found.value_field.nullable
    elif name in INTEGERS:
        assert pa.types.is_signed_integer(found)
    elif name in STRINGS:
        assert pa.types.is_string(found)
    elif name in BOOLEANS:
        assert pa.types.is_boolean(found)
    else:
        assert found == pa.float64()


@pytest.mark.parametrize(
    "schema",
    [ROW_SCHEMA, FEATURE_ROWS_SCHEMA, EXTRA_FEATURES_SCHEMA, FRAME_SCORES_SCHEMA, CLIPS_SCHEMA, REFERENCES_SCHEMA],
)
def test_every_column_says_what_it_is(schema: pa.Schema) -> None:
    assert [field.name for field in schema if not (field.metadata or {}).get(b"description", b"").strip()] == []
    assert len(set(schema.names)) == len(schema.names)


def test_a_recorded_row_holds_the_whole_contract_as_it_will_be_published() -> None:
    assert [field for field in FEATURE_ROWS_SCHEMA if field.name in CONTRACT] == list(ROW_SCHEMA)


@pytest.mark.parametrize(
    ("schema", "key"),
    [
        (FEATURE_ROWS_SCHEMA, FEATURE_ROWS_KEY),
        (EXTRA_FEATURES_SCHEMA, EXTRA_FEATURES_KEY),
        (FRAME_SCORES_SCHEMA, FRAME_SCORES_KEY),
        (REFERENCES_SCHEMA, REFERENCES_KEY),
    ],
)
def test_a_key_column_cannot_be_null(schema: pa.Schema, key: tuple[str, ...]) -> None:
    assert [name for name in (*key, "recorded_ns") if schema.field(name).nullable] == []
