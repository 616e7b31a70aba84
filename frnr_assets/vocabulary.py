"""Words and defaults that every room shares."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

DEFAULT_CRF_SWEEP: Final = (18, 23, 28, 33, 38)
DEFAULT_ENCODER: Final = "libx264"
DEFAULT_PRESET: Final = "medium"
DEFAULT_VMAF_MODEL: Final = "vmaf_v0.6.1"

# The models of vmaf_model = "auto": Netflix's 4K model was made for screens of so many lines, seen from 1.5 times their
# height.
UHD_VMAF_MODEL: Final = "vmaf_4k_v0.6.1"
UHD_LINES: Final = 2160

# What rows say of a clip that was encoded and scored from its first frame to its last.
FULL_CLIP: Final = "full"


def sample_mode(seconds: float) -> str:
    """Return what rows say of a clip of which only the centre was encoded and scored."""
    return f"sample_{seconds:g}s"


# The features of VMAF's own model that FR regressors train on, named as in the row contract.
CANONICAL6_FEATURES: Final = ("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3", "motion2")

# The highest values that a frame can plausibly have. ADM and VIF are 1 for identical frames, a little more by the
# rounding of their fixed point, and VIF more where an encode has more contrast than its reference; motion is a mean
# absolute difference of 8-bit samples.
FEATURE_LIMITS: Final[Mapping[str, float]] = dict.fromkeys(CANONICAL6_FEATURES, 2.0) | {"motion2": 255.0}


@dataclass(frozen=True)
class ExtraFeature:
    """A feature of libvmaf's beyond the canonical-6, which can be asked for.

    Attributes:
        extractor: libvmaf's name of what computes it.
        columns: the values that it has for each frame, as libvmaf's log names them.
        memory_frames: resident memory that it takes for each distortion, in frames; measured at 1080p and 2160p.
        min_shorter_side: pixels that the shorter side of a frame needs.
        min_longer_side: pixels that the longer side needs.
    """

    extractor: str
    columns: tuple[str, ...]
    memory_frames: int
    min_shorter_side: int = 0
    min_longer_side: int = 0

    def is_defined(self, width: int, height: int) -> bool:
        """Tell whether frames of that size are large enough for it; libvmaf gives up on smaller ones altogether."""
        return min(width, height) >= self.min_shorter_side and max(width, height) >= self.min_longer_side


# From libvmaf's ms_ssim.c and cambi.c: MS-SSIM halves a frame four times and then needs 11 pixels; CAMBI needs 216 on
# one side.
EXTRA_FEATURES: Final[Mapping[str, ExtraFeature]] = {
    "psnr": ExtraFeature("psnr", ("psnr_y", "psnr_cb", "psnr_cr"), 1),
    "psnr_hvs": ExtraFeature("psnr_hvs", ("psnr_hvs", "psnr_hvs_y", "psnr_hvs_cb", "psnr_hvs_cr"), 1),
    "ssim": ExtraFeature("float_ssim", ("float_ssim",), 11),
    "ms_ssim": ExtraFeature("float_ms_ssim", ("float_ms_ssim",), 30, min_shorter_side=176),
    "cambi": ExtraFeature("cambi", ("cambi",), 6, min_longer_side=216),
    "ciede": ExtraFeature("ciede", ("ciede2000",), 5),
}


def extra_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Return the values that extra features have for each frame, as libvmaf's log names them."""
    return tuple(column for name in names for column in EXTRA_FEATURES[name].columns)


# The columns of an encoder's own statistics, in the order of the row contract.
ENCODER_STATISTICS: Final = (
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

CAVEAT: Final = (
    "The reference of every row is a re-decoded upload, not a master. Scores measure "
    "delta-vs-already-distorted-source: they rank the CRFs of one source well, but the absolute number is not "
    "comparable to rows from a mastered set (Netflix Public, BVI-DVC). Stratify by fr_from_nr when training on a "
    "mixed corpus."
)
MIXED_CAVEAT: Final = (
    "Only rows whose fr_from_nr is false have a master as their reference. That of the others is a re-decoded upload: "
    "their scores measure delta-vs-already-distorted-source, rank the CRFs of one source well, and do not compare with "
    "those of mastered rows as absolute numbers. Stratify by fr_from_nr."
)
