"""The sixth stage: pictures and tables of the corpus, for a person to look at."""

import dagster as dg
from pydantic import Field

from frnr_assets.assets.descriptions import GROUP, OWNERS, describe, rounded
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.progress import refusal
from frnr_assets.corpus.tables import NotMaterialized
from frnr_assets.resources import TablesResource
from frnr_assets.words import harmless

CORPUS_REPORT = dg.AssetKey("corpus_report")


class ReportConfig(dg.Config):
    """What a run may ask of the report."""

    shown_clips: list[str] = Field([], description="Keys of clips whose curves are drawn on their own.")


def build_corpus_report() -> dg.AssetsDefinition:
    """Return the asset that draws what is published."""

    @dg.asset(
        key=CORPUS_REPORT,
        deps=[FR_CORPUS],
        description=describe(
            "Pictures and tables of the published corpus, in the metadata here and in one HTML page: VMAF over "
            "bitrate, VMAF and the canonical-6 at each CRF, their correlations, MOS against VMAF, curves that are not "
            "monotone, the mix of clips, quarantine. `shown_clips` in the launchpad draws the curves "
            "of single clips on top.",
            "docs/corpus.md",
        ),
        owners=OWNERS,
        kinds={"matplotlib", "html"},
        group_name=GROUP,
        code_version="1",
    )
    def corpus_report(
        context: dg.AssetExecutionContext, config: ReportConfig, tables: TablesResource
    ) -> dg.MaterializeResult[None]:
        # Only this asset needs matplotlib, which takes half a second to load.
        from frnr_assets.report.make import UnknownClips, make_report  # noqa: PLC0415
        from frnr_assets.report.page import section_markdown  # noqa: PLC0415

        store = tables.tables()
        try:
            report = make_report(store, config.shown_clips)
        except (NotMaterialized, UnknownClips) as error:
            raise refusal(str(error)) from error
        except OSError as error:
            raise refusal(
                f"{error.filename or store.report}: {error.strerror or error}. The page before stays; mend it and "
                "materialize corpus_report again"
            ) from error
        context.log.info(f"the report is {store.report}")
        # The page has every recipe; a materialization stays small enough for Dagster's database with one.
        shown = [report.chapters[0], report.chapters[-1]]
        sections = [section for chapter in shown for section in chapter.sections]
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(store.report),
                "recipe shown here": report.chapters[0].title,
                **{
                    harmless(name): rounded(value) if isinstance(value, float) else value
                    for name, value in report.numbers.items()
                },
                **{section.title: dg.MetadataValue.md(section_markdown(section)) for section in sections},
            }
        )

    return corpus_report
