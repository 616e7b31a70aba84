"""Making the report of what is published."""

from collections.abc import Sequence

from frnr_assets.corpus.load import read_sources
from frnr_assets.corpus.publish import read_version, require_version
from frnr_assets.corpus.schema import FEATURE_MEANS
from frnr_assets.corpus.store import to_polars
from frnr_assets.corpus.tables import Tables
from frnr_assets.report.contents import MOST_SHOWN_CLIPS, report_of
from frnr_assets.report.page import write_page
from frnr_assets.report.parts import Report

CORPUS_COLUMNS = (
    "src",
    "src_sha256",
    "width",
    "height",
    "framerate",
    "duration_s",
    "encoder",
    "preset",
    "crf",
    "bitrate_kbps",
    "vmaf_score",
    "vmaf_model",
    "nr_mos",
    *FEATURE_MEANS,
)
_SHOWN_IN_A_MESSAGE = 10


class UnknownClips(ValueError):  # noqa: N818 - the name says what they are
    """Clips that somebody wants to see cannot be drawn; the message says which, why, and what to do."""


def make_report(tables: Tables, shown_clips: Sequence[str] = ()) -> Report:
    """Make the report of the published corpus and write its page to ``tables.report``.

    Args:
        tables: where the corpus is.
        shown_clips: keys of the clips whose curves are drawn on their own.

    Raises:
        NotMaterialized: nothing was published yet.
        UnknownClips: too many clips to show, or clips that have no row in the corpus.
        OSError: the disk is full, or the corpus or the folder of the page is not accessible.
    """
    version = require_version(tables.corpus, "fr_corpus")
    shown = list(dict.fromkeys(shown_clips))
    if len(shown) > MOST_SHOWN_CLIPS:
        raise UnknownClips(
            f"shown_clips has {len(shown)} clips; name at most {MOST_SHOWN_CLIPS}, for curves to be told apart"
        )
    published = to_polars(read_version(version, CORPUS_COLUMNS))
    labels = read_sources(version).select("src", "clip", "dataset")
    rows = published.join(labels, on="src", how="left", maintain_order="left")
    unknown = sorted(set(shown) - set(rows["clip"].unique()))
    if unknown:
        names = ", ".join(unknown[:_SHOWN_IN_A_MESSAGE])
        raise UnknownClips(
            f"shown_clips has clips without a row in the corpus: {names}; name clips by their partition key"
        )
    report = report_of(rows, tables.quarantine(), shown, version.name)
    write_page(report, tables.report)
    return report
