"""Words and defaults that every room shares."""

from typing import Final

DEFAULT_CRF_SWEEP: Final = (18, 23, 28, 33, 38)
DEFAULT_ENCODER: Final = "libx264"
DEFAULT_PRESET: Final = "medium"
DEFAULT_VMAF_MODEL: Final = "vmaf_v0.6.1"

# The features of VMAF's own model that FR regressors train on, named as in the row contract.
CANONICAL6_FEATURES: Final = ("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3", "motion2")

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
