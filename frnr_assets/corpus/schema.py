"""The schemas of every table, in one place. Everything else derives names, types and nullability from here."""

from typing import Final

import pyarrow as pa

from frnr_assets.vocabulary import CANONICAL6_FEATURES

SCHEMA_VERSION: Final = 3

FEATURE_MEANS: Final = tuple(f"{feature}_mean" for feature in CANONICAL6_FEATURES)
FEATURE_STDS: Final = tuple(f"{feature}_std" for feature in CANONICAL6_FEATURES)


def _field(name: str, kind: pa.DataType, description: str, *, nullable: bool = False) -> "pa.Field[pa.DataType]":
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


_STRINGS = pa.list_(pa.field("element", pa.string(), nullable=False))
_FRAMES = pa.list_(pa.field("element", pa.float32(), nullable=False))

# The contract with trainers: vmaf-tune's CORPUS_ROW_KEYS, schema version 3, in its order, then three provenance keys.
ROW_SCHEMA: Final = pa.schema(
    [
        _field("schema_version", pa.int32(), "version of the vmaf-tune row schema"),
        _field("run_id", pa.string(), "run that measured the row"),
        _field("timestamp", pa.string(), "when the row was measured, UTC, ISO 8601"),
        _field("src", pa.string(), "path of the uploaded file; group by it to keep a source in one part of a split"),
        _field("src_sha256", pa.string(), "SHA-256 of the uploaded file"),
        _field("width", pa.int32(), "working width in pixels, after cropping to whole chroma samples"),
        _field("height", pa.int32(), "working height in pixels, after cropping to whole chroma samples"),
        _field("pix_fmt", pa.string(), "working pixel format, in which the clip was encoded and scored"),
        _field("framerate", pa.float64(), "nominal rate R in frames per second: the average frame rate of the upload"),
        _field("duration_s", pa.float64(), "decoded frames of the whole clip divided by R, in seconds"),
        _field("encoder", pa.string(), "ffmpeg's name of the encoder"),
        _field("encoder_version", pa.string(), "encoder and version of its library, as it reports it"),
        _field("preset", pa.string(), "encoder preset"),
        _field("crf", pa.int32(), "constant rate factor of the distortion"),
        _field("extra_params", _STRINGS, "further encoder arguments"),
        _field("encode_path", pa.string(), "path of the encode; empty unless encodes are kept"),
        _field("encode_size_bytes", pa.int64(), "size of the encode in bytes, MP4 container included"),
        _field(
            "bitrate_kbps",
            pa.float64(),
            "encode_size_bytes x 8 / 1000 / seconds that were encoded (duration_s, or those of the sample), in kbit/s",
        ),
        _field("encode_time_ms", pa.float64(), "wall-clock time of this encode alone, one thread, in milliseconds"),
        _field("vmaf_score", pa.float64(), "mean VMAF over frames, against the re-decoded upload, 0 to 100"),
        _field("vmaf_model", pa.string(), "VMAF model: its version, or its file's name and hash"),
        _field(
            "score_time_ms", pa.float64(), "wall-clock time of the clip's scoring divided by its cells, in milliseconds"
        ),
        _field("ffmpeg_version", pa.string(), "version of ffmpeg"),
        _field("vmaf_binary_version", pa.string(), "version of libvmaf, from the log of this very score"),
        _field("exit_status", pa.int32(), "exit status of encode and score; always 0 in a published row"),
        _field("clip_mode", pa.string(), '"full", or "sample_<N>s" when only the centre N seconds were used'),
        _field("hdr_transfer", pa.string(), '"pq", "hlg", or empty for standard dynamic range'),
        _field("hdr_primaries", pa.string(), "colour primaries of an HDR upload, or empty"),
        _field("hdr_forced", pa.bool_(), "whether the HDR columns were set by hand; always false"),
        _field("shot_count", pa.int32(), "shots in the clip (ffmpeg scdet, threshold 10)"),
        _field("shot_avg_duration_sec", pa.float64(), "mean shot duration in seconds"),
        _field("shot_duration_std_sec", pa.float64(), "population standard deviation of shot durations, in seconds"),
        *(_field(name, pa.float64(), f"mean over frames of libvmaf's {name[:-5]}") for name in FEATURE_MEANS),
        *(
            _field(name, pa.float64(), f"population standard deviation over frames of libvmaf's {name[:-4]}")
            for name in FEATURE_STDS
        ),
        _field(
            "enc_internal_qp_mean",
            pa.float64(),
            "mean quantizer over frames, from the encoder's statistics; these are 0 for an encoder that has none",
        ),
        _field("enc_internal_qp_std", pa.float64(), "population standard deviation of the quantizer over frames"),
        _field("enc_internal_bits_mean", pa.float64(), "mean bits of a frame: texture + motion vectors + other"),
        _field("enc_internal_bits_std", pa.float64(), "population standard deviation of the bits of a frame"),
        _field("enc_internal_mv_mean", pa.float64(), "mean motion-vector bits of a frame"),
        _field(
            "enc_internal_mv_std", pa.float64(), "population standard deviation of the motion-vector bits of a frame"
        ),
        _field("enc_internal_itex_mean", pa.float64(), "mean texture bits of an intra frame"),
        _field("enc_internal_ptex_mean", pa.float64(), "mean texture bits of a predicted frame"),
        _field("enc_internal_intra_ratio", pa.float64(), "intra macroblocks as a fraction of all"),
        _field("enc_internal_skip_ratio", pa.float64(), "skipped macroblocks as a fraction of all"),
        _field("nr_source", pa.string(), "path of the no-reference clip that the row was made from"),
        _field(
            "nr_mos",
            pa.float64(),
            "crowd MOS of the upload, passed through unchanged; null when it has none",
            nullable=True,
        ),
        _field("fr_from_nr", pa.bool_(), "always true: the reference is a re-decoded upload, not a master"),
    ]
)
PROVENANCE_KEYS: Final = ("nr_source", "nr_mos", "fr_from_nr")
CORPUS_ROW_KEYS: Final = tuple(name for name in ROW_SCHEMA.names if name not in PROVENANCE_KEYS)

_CLIP = _field("clip", pa.string(), "clip key: the name of the clip's partition")
_RECORDED = _field(
    "recorded_ns", pa.int64(), "when the row was recorded, nanoseconds since 1970; the newest row counts"
)

# The rows as they are recorded: the contract, and what finds and judges a row.
FEATURE_ROWS_SCHEMA: Final = pa.schema(
    [
        _CLIP,
        _field("identity", pa.string(), "hash of everything the row was made from; equal identity, equal row"),
        _field("frames", pa.int64(), "frames of reference, distortion and score log"),
        _RECORDED,
        *ROW_SCHEMA,
    ]
)
FEATURE_ROWS_KEY: Final = ("clip", "encoder", "preset", "crf")

# The rows of a corpus in which not every reference is a re-decoded upload: these two say so.
_OF_ANY_REFERENCE = {
    "nr_source": _field(
        "nr_source",
        pa.string(),
        "path of the no-reference clip that the row was made from; null when its reference is a master",
        nullable=True,
    ),
    "fr_from_nr": _field(
        "fr_from_nr", pa.bool_(), "whether the reference is a re-decoded upload; false when it is a master"
    ),
}
MIXED_ROW_SCHEMA: Final = pa.schema([_OF_ANY_REFERENCE.get(field.name, field) for field in ROW_SCHEMA])

# One row for each source of a published corpus, beside it.
SOURCES_SCHEMA: Final = pa.schema(
    [
        _field("src", pa.string(), "path of the source, as in the rows"),
        _field("src_sha256", pa.string(), "SHA-256 of the source; empty when its rows do not have it"),
        _field("dataset", pa.string(), "name of the dataset"),
        _field("clip", pa.string(), "clip key; empty for sources that are no uploads"),
        _field("fr_from_nr", pa.bool_(), "whether its rows were made from an upload; the stratum"),
        _field("nr_mos", pa.float64(), "crowd MOS; null when it has none", nullable=True),
        _field("rows", pa.int64(), "rows of the source"),
        _field("mean_vmaf", pa.float64(), "mean VMAF of its rows"),
        _field("split", pa.string(), "train, validation or test: the part that all rows of the source are in"),
        _field("weight", pa.float64(), "sample weight of its rows: all strata weigh the same, rows 1 on average"),
    ]
)

# What was asked for beyond the contract: one row for each value of each cell, beside the feature rows.
EXTRA_FEATURES_SCHEMA: Final = pa.schema(
    [
        _CLIP,
        _field("encoder", pa.string(), "ffmpeg's name of the encoder"),
        _field("preset", pa.string(), "encoder preset"),
        _field("crf", pa.int32(), "constant rate factor of the distortion"),
        _field("feature", pa.string(), "the value's name in libvmaf's log, such as psnr_y"),
        _RECORDED,
        _field("identity", pa.string(), "that of the feature row it belongs to"),
        _field("src_sha256", pa.string(), "SHA-256 of the uploaded file"),
        _field(
            "mean",
            pa.float64(),
            "mean over frames; null when a frame has no finite value, because the encode has kept it exactly",
            nullable=True,
        ),
        _field("std", pa.float64(), "population standard deviation over frames; null as the mean", nullable=True),
    ]
)
EXTRA_FEATURES_KEY: Final = (*FEATURE_ROWS_KEY, "feature")

# What the means and deviations of a feature row were computed from: one row for each cell, when it is asked for.
FRAME_COLUMNS: Final = ("vmaf", *CANONICAL6_FEATURES)
FRAME_SCORES_SCHEMA: Final = pa.schema(
    [
        _CLIP,
        _field("encoder", pa.string(), "ffmpeg's name of the encoder"),
        _field("preset", pa.string(), "encoder preset"),
        _field("crf", pa.int32(), "constant rate factor of the distortion"),
        _RECORDED,
        _field("identity", pa.string(), "that of the feature row it belongs to"),
        _field("src_sha256", pa.string(), "SHA-256 of the uploaded file"),
        *(_field(name, _FRAMES, f"libvmaf's {name} of each frame that was scored, in order") for name in FRAME_COLUMNS),
    ]
)
FRAME_SCORES_KEY: Final = FEATURE_ROWS_KEY

CLIPS_SCHEMA: Final = pa.schema(
    [
        _CLIP,
        _field("dataset", pa.string(), "name of the dataset"),
        _field("name", pa.string(), "path of the clip within its dataset: what it is known by from one ingestion on"),
        _field("src", pa.string(), "absolute path of the uploaded file"),
        _field("mos", pa.float64(), "crowd MOS; null when the manifest has none", nullable=True),
        _field("mos_std_dev", pa.float64(), "standard deviation of the ratings", nullable=True),
        _field("n_ratings", pa.int64(), "number of ratings", nullable=True),
        _field("split", pa.string(), "the dataset's own split", nullable=True),
        _field(
            "url", pa.string(), "where a missing file is downloaded from, without what is secret in it", nullable=True
        ),
        _field("extra", pa.string(), "all other columns of the manifest row, as JSON"),
        _field("manifest", pa.string(), "path of the manifest file"),
        _field("line", pa.int64(), "line of the manifest file, from 1"),
        _field(
            "size_bytes", pa.int64(), "size of the uploaded file in bytes; null while it is not there", nullable=True
        ),
        _field("mtime_ns", pa.int64(), "its modification time, nanoseconds since 1970", nullable=True),
        _field("removed", pa.bool_(), "whether the manifests list the clip no longer"),
    ]
)

REJECTS_SCHEMA: Final = pa.schema(
    [
        _field("manifest", pa.string(), "path of the manifest file"),
        _field("line", pa.int64(), "line of the manifest file, from 1"),
        _field("dataset", pa.string(), "name of the dataset"),
        _field("kind", pa.string(), "kind of reason"),
        _field("reason", pa.string(), "why the row is rejected"),
        _field("src", pa.string(), "absolute path of the source, as far as it is known", nullable=True),
        _field("url", pa.string(), "where it is downloaded from, without what is secret in it", nullable=True),
        _field("row", pa.string(), "the row as it stands in the manifest, at most its first 2,000 bytes"),
    ]
)

# What an ingestion looked at: when one of these differs, there is something to ingest.
WATCHED_SCHEMA: Final = pa.schema(
    [
        _field("path", pa.string(), "path of a manifest or a source"),
        _field("size_bytes", pa.int64(), "its size in bytes; null when it was not there", nullable=True),
        _field("mtime_ns", pa.int64(), "its modification time, nanoseconds since 1970", nullable=True),
        _field("ctime_ns", pa.int64(), "when its name, place or rights changed, nanoseconds since 1970", nullable=True),
        _field("inode", pa.int64(), "its inode", nullable=True),
    ]
)

# Hashes of the sources of equal size, for finding those of equal content.
CONTENTS_SCHEMA: Final = pa.schema(
    [
        _field("src", pa.string(), "absolute path of the source"),
        _field("size_bytes", pa.int64(), "its size in bytes"),
        _field("mtime_ns", pa.int64(), "its modification time when it was hashed, nanoseconds since 1970"),
        _field("ends_sha256", pa.string(), "SHA-256 of its first and last 64 KiB"),
        _field("sha256", pa.string(), "SHA-256 of all of it; null where the ends told enough", nullable=True),
    ]
)

DOWNLOADS_SCHEMA: Final = pa.schema(
    [
        _field("src", pa.string(), "absolute path that the source is downloaded to"),
        _RECORDED,
        _field("url", pa.string(), "where it is downloaded from, without what is secret in it"),
        _field("size_bytes", pa.int64(), "its size in bytes; null when the download failed", nullable=True),
        _field("failure", pa.string(), "why the download failed; null when it did not", nullable=True),
        _field("permanent", pa.bool_(), "whether trying again would not help"),
        _field("attempts", pa.int64(), "runs that tried, since it last worked or its address changed"),
    ]
)
DOWNLOADS_KEY: Final = ("src",)

# Failures of clips that may work another time; too many in a row put the clip into quarantine.
ATTEMPTS_SCHEMA: Final = pa.schema(
    [
        _CLIP,
        _RECORDED,
        _field("attempts", pa.int64(), "runs in which it failed, since one in which it did not or its file changed"),
        _field("size_bytes", pa.int64(), "size of the uploaded file in bytes", nullable=True),
        _field("mtime_ns", pa.int64(), "its modification time, nanoseconds since 1970", nullable=True),
        _field("reason", pa.string(), "the last failure; null when there was none since", nullable=True),
    ]
)
ATTEMPTS_KEY: Final = ("clip",)

REFERENCES_SCHEMA: Final = pa.schema(
    [
        _CLIP,
        _RECORDED,
        _field("src", pa.string(), "absolute path of the uploaded file"),
        _field(
            "identity",
            pa.string(),
            "hash of everything the facts depend on; of a clip in quarantine, of the settings that it was tried with",
            nullable=True,
        ),
        _field(
            "kept_path", pa.string(), "path of the decoded reference; null unless references are kept", nullable=True
        ),
        _field("quarantine_reason", pa.string(), "why the clip cannot be used; null when it can", nullable=True),
        _field("tool_output", pa.string(), "the tool's own words about it", nullable=True),
        _field("attempts", pa.int64(), "runs that tried the file before it went into quarantine", nullable=True),
        _field("src_sha256", pa.string(), "SHA-256 of the uploaded file", nullable=True),
        _field("size_bytes", pa.int64(), "size of the uploaded file in bytes", nullable=True),
        _field("mtime_ns", pa.int64(), "its modification time, nanoseconds since 1970", nullable=True),
        _field("file_state", pa.string(), "its device, inode and time of change when it was decoded", nullable=True),
        _field("container", pa.string(), "container format", nullable=True),
        _field("codec", pa.string(), "video codec", nullable=True),
        _field("source_width", pa.int32(), "frame width as coded, in pixels", nullable=True),
        _field("source_height", pa.int32(), "frame height as coded, in pixels", nullable=True),
        _field("source_pix_fmt", pa.string(), "pixel format as coded", nullable=True),
        _field("source_chroma", pa.string(), "chroma subsampling as coded", nullable=True),
        _field("source_bit_depth", pa.int32(), "bits per sample as coded", nullable=True),
        _field("width", pa.int32(), "working width in pixels", nullable=True),
        _field("height", pa.int32(), "working height in pixels", nullable=True),
        _field("pix_fmt", pa.string(), "working pixel format", nullable=True),
        _field("working_filters", pa.string(), "ffmpeg filters of the working-format step", nullable=True),
        _field(
            "adjustments",
            pa.list_(pa.string()),
            "how the working format differs from the frames as coded",
            nullable=True,
        ),
        _field(
            "decode_errors",
            pa.list_(pa.string()),
            "what ffmpeg complained of when damage was concealed; empty for a whole bitstream",
            nullable=True,
        ),
        _field("rate_num", pa.int64(), "nominal rate R, numerator", nullable=True),
        _field("rate_den", pa.int64(), "nominal rate R, denominator", nullable=True),
        _field("frames", pa.int64(), "decoded frames", nullable=True),
        _field("stream_duration_s", pa.float64(), "duration of the video stream in seconds, if it says", nullable=True),
        _field("frames_md5", pa.string(), "MD5 of all frames in the working format", nullable=True),
        _field(
            "variable_frame_rate", pa.bool_(), "frame intervals differ from 1 / R by more than a quarter", nullable=True
        ),
        _field("color_range", pa.string(), "tv, pc or unspecified", nullable=True),
        _field("color_transfer", pa.string(), "transfer characteristics (H.273)", nullable=True),
        _field("color_primaries", pa.string(), "colour primaries (H.273)", nullable=True),
        _field("color_matrix", pa.string(), "matrix coefficients (H.273)", nullable=True),
        _field("shot_count", pa.int32(), "shots (ffmpeg scdet, threshold 10)", nullable=True),
        _field("shot_avg_duration_s", pa.float64(), "mean shot duration in seconds", nullable=True),
        _field("shot_duration_std_s", pa.float64(), "population standard deviation of shot durations", nullable=True),
    ]
)
REFERENCES_KEY: Final = ("clip",)
