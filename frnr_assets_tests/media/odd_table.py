"""The odd uploads, and those that are refused."""

from fractions import Fraction
from functools import partial

from frnr_assets_tests.media.odd_clips import (
    CLIP,
    PASSES,
    Args,
    OddClip,
    converted,
    cover_first,
    replaced,
    shifted,
    twice,
    with_edits,
    with_repeated_fields,
    without_durations,
)

ODD = (65, 49)

X264: Args = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-threads", "1")
X264_RGB: Args = ("-c:v", "libx264rgb", *X264[2:])
X264_OPEN: Args = (*X264, "-bf", "3", "-x264-params", "open-gop=1:keyint=8:min-keyint=8:scenecut=0:b-adapt=0")
NO_B: Args = ("-bf", "0")
X265_PARAMS = "log-level=error:pools=none:frame-threads=1"
X265: Args = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", X265_PARAMS)
X265_OPEN: Args = (*X265[:-1], f"{X265_PARAMS}:open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=3:b-adapt=0")
VP8: Args = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-threads", "1")
VP9: Args = ("-c:v", "libvpx-vp9", *VP8[2:])
# Of the frames that it codes, some are there for others to refer to and never shown; so it is with all of AV1's here.
VP9_TWICE: Args = (
    *("-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", "5", "-b:v", "200k", "-threads", "1"),
    *("-auto-alt-ref", "1", "-lag-in-frames", "12", "-passlogfile", PASSES, "-pass"),
)
AV1: Args = ("-c:v", "libsvtav1", "-preset", "10", "-crf", "30", "-svtav1-params", "lp=1")
AV1_GRAIN: Args = (*AV1[:-1], "lp=1:film-grain=8")
AOM: Args = ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-crf", "30", "-threads", "1")
MPEG2: Args = ("-c:v", "mpeg2video", "-q:v", "4", "-threads", "1")
MPEG4: Args = ("-c:v", "mpeg4", "-q:v", "4", "-threads", "1")
MJPEG: Args = ("-c:v", "mjpeg", "-q:v", "4", "-threads", "1")
INTERLACED: Args = ("-flags", "+ilme+ildct")

INPUT: Args = ("-i", CLIP)
COPY: Args = (*INPUT, "-map", "0", "-c", "copy")
BOTH: Args = ("-map", "0", "-map", "1", "-c:v", "copy")
SOUND: Args = ("-f", "lavfi", "-i", "sine=duration=0.5")
WORDS: Args = ("-f", "srt", "-i", "data:text/plain,1\n00:00:00,000 --> 00:00:00,400\nhello\n")
CHAPTERS: Args = (
    *("-f", "ffmetadata"),
    *("-i", "data:text/plain,;FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=one\n"),
)
COVER: Args = ("-f", "lavfi", "-i", "color=red:size=200x200,trim=end_frame=1")
LARGER: Args = ("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=24,trim=end_frame=30")
AS_THEY_ARE: Args = ("-avoid_negative_ts", "disabled")

FULL = "scale=out_range=pc"
BT2020 = "setparams=range=tv:color_primaries=bt2020:colorspace=bt2020nc:color_trc"
CLEAR_TO_THE_LEFT = "format=yuva420p,geq=lum='lum(X,Y)':a='X'"

SIZES = (
    OddClip("odd width", "clip.webm", VP8, coded=(65, 48), adjustments=("cropped from 65x48 to 64x48",)),
    OddClip("odd height", "clip.avi", MPEG4, coded=(64, 49), adjustments=("cropped from 64x49 to 64x48",)),
    OddClip("odd mpeg2", "clip.ts", MPEG2, coded=ODD, adjustments=("cropped from 65x49 to 64x48",)),
    OddClip("odd av1", "clip.mp4", AV1, coded=ODD, adjustments=("cropped from 65x49 to 64x48",)),
    OddClip(
        "odd 10 bits",
        "clip.webm",
        VP9,
        "format=yuv420p10le",
        coded=ODD,
        pix_fmt="yuv420p10le",
        adjustments=("cropped from 65x49 to 64x48",),
    ),
    OddClip(
        "odd 12 bits",
        "clip.mkv",
        VP9,
        "format=yuv420p12le",
        coded=ODD,
        pix_fmt="yuv420p10le",
        adjustments=("cropped from 65x49 to 64x48", converted("yuv420p12le", "yuv420p10le")),
    ),
    OddClip(
        "odd 4:2:2",
        "clip.webm",
        VP9,
        "format=yuv422p",
        coded=ODD,
        size=(64, 49),
        pix_fmt="yuv422p",
        adjustments=("cropped from 65x49 to 64x49",),
    ),
    OddClip("odd 4:4:4", "clip.mp4", X264, "format=yuv444p", coded=ODD, size=ODD, pix_fmt="yuv444p"),
)

FORMATS = (
    OddClip("4:2:2 10 bits", "clip.mov", X264, "format=yuv422p10le", pix_fmt="yuv422p10le"),
    OddClip(
        "4:2:2 12 bits",
        "clip.ts",
        X265,
        "format=yuv422p12le",
        pix_fmt="yuv422p10le",
        adjustments=(converted("yuv422p12le", "yuv422p10le"),),
    ),
    OddClip("4:4:4 10 bits", "clip.mkv", AOM, "format=yuv444p10le", pix_fmt="yuv444p10le"),
    OddClip(
        "4:4:4 12 bits",
        "clip.mp4",
        X265,
        "format=yuv444p12le",
        pix_fmt="yuv444p10le",
        adjustments=(converted("yuv444p12le", "yuv444p10le"),),
    ),
    OddClip(
        "4:4:0",
        "clip.webm",
        VP9,
        "format=yuv440p",
        pix_fmt="yuv444p",
        adjustments=(converted("yuv440p", "yuv444p"),),
    ),
    OddClip(
        "full range",
        "clip.mp4",
        X264,
        f"{FULL},format=yuvj420p",
        facts={"color_range": "pc"},
        adjustments=(converted("yuvj420p", "yuv420p"),),
    ),
    OddClip(
        "full range 12 bits",
        "clip.mp4",
        X265,
        f"{FULL},format=yuv420p12le,setparams=range=pc",
        pix_fmt="yuv420p10le",
        facts={"color_range": "pc"},
        adjustments=(converted("yuv420p12le", "yuv420p10le"),),
    ),
    OddClip(
        "motion jpeg 4:2:2",
        "clip.avi",
        MJPEG,
        f"{FULL},format=yuvj422p",
        coded=ODD,
        size=(64, 49),
        pix_fmt="yuv422p",
        facts={"color_range": "pc"},
        adjustments=("cropped from 65x49 to 64x49", converted("yuvj422p", "yuv422p")),
    ),
    OddClip(
        "motion jpeg 4:4:4",
        "clip.mov",
        MJPEG,
        f"{FULL},format=yuvj444p",
        coded=ODD,
        size=ODD,
        pix_fmt="yuv444p",
        facts={"color_range": "pc"},
        adjustments=(converted("yuvj444p", "yuv444p"),),
    ),
    OddClip(
        "motion jpeg limited range",
        "clip.mkv",
        (*MJPEG, "-strict", "unofficial"),
        "setparams=range=tv",
        facts={"color_range": "tv"},
    ),
    OddClip(
        "PQ",
        "clip.mp4",
        X265,
        f"format=yuv420p10le,{BT2020}=smpte2084",
        pix_fmt="yuv420p10le",
        facts={"hdr_transfer": "pq", "hdr_primaries": "bt2020"},
    ),
    OddClip(
        "PQ 12 bits",
        "clip.mkv",
        VP9,
        f"format=yuv420p12le,{BT2020}=smpte2084",
        pix_fmt="yuv420p10le",
        facts={"hdr_transfer": "pq"},
        adjustments=(converted("yuv420p12le", "yuv420p10le"),),
    ),
    OddClip(
        "HLG",
        "clip.webm",
        AV1,
        f"format=yuv420p10le,{BT2020}=arib-std-b67",
        pix_fmt="yuv420p10le",
        facts={"hdr_transfer": "hlg", "hdr_primaries": "bt2020"},
    ),
    # ffmpeg's decoder gives 4:2:0 with empty chroma for H.264 without any.
    OddClip("gray h264", "clip.mp4", X264, "format=gray10le,setparams=range=tv", pix_fmt="yuv420p10le"),
    OddClip(
        "gray hevc",
        "clip.mp4",
        X265,
        "format=gray,setparams=range=tv",
        coded=ODD,
        adjustments=("cropped from 65x49 to 64x48", converted("gray", "yuv420p")),
    ),
    OddClip(
        "gray full range 12 bits",
        "clip.mp4",
        X265,
        "format=gray12le,setparams=range=pc",
        pix_fmt="yuv420p10le",
        facts={"chroma": "gray", "color_range": "pc"},
        adjustments=(converted("gray12le", "yuv420p10le"),),
    ),
    OddClip(
        "RGB h264",
        "clip.mp4",
        X264_RGB,
        "format=rgb24",
        pix_fmt="yuv444p",
        adjustments=(converted("gbrp", "yuv444p in limited-range BT.709"),),
    ),
    OddClip(
        "RGB vp9",
        "clip.webm",
        VP9,
        "format=gbrp",
        coded=ODD,
        size=ODD,
        pix_fmt="yuv444p",
        adjustments=(converted("gbrp", "yuv444p in limited-range BT.709"),),
    ),
    OddClip(
        "RGB 12 bits",
        "clip.mp4",
        X265,
        "format=gbrp12le",
        pix_fmt="yuv444p10le",
        adjustments=(converted("gbrp12le", "yuv444p10le in limited-range BT.709"),),
    ),
)

ALPHA = (
    OddClip("alpha vp8", "clip.webm", (*VP8, "-auto-alt-ref", "0"), CLEAR_TO_THE_LEFT),
    OddClip("alpha vp9", "clip.webm", (*VP9, "-auto-alt-ref", "0"), CLEAR_TO_THE_LEFT),
    # ffmpeg decodes this one's alpha, which its headers do not mention.
    OddClip("alpha hevc", "clip.mp4", (*X265, "-tag:v", "hvc1"), CLEAR_TO_THE_LEFT),
)

GEOMETRY = (
    OddClip("turned by 90 degrees", "clip.mkv", X264, steps=(("-display_rotation", "90", *COPY, "clip.mkv"),)),
    OddClip("turned by 180 degrees", "clip.mp4", X264, steps=(("-display_rotation", "180", *COPY, "clip.mp4"),)),
    OddClip("mirrored", "clip.mp4", X264, steps=(("-display_hflip", *COPY, "clip.mp4"),)),
    OddClip("anamorphic", "clip.mp4", X264, "setsar=4/3"),
    OddClip(
        "cropped by h264",
        "clip.mp4",
        X264,
        size=(56, 44),
        untouched=False,
        steps=((*COPY, "-bsf:v", "h264_metadata=crop_right=8:crop_bottom=4", "clip.mp4"),),
    ),
    OddClip("cropped by hevc", "clip.mp4", X265, coded=(58, 46), size=(58, 46)),
    # The display height, 9 to the width's 16, becomes 9 columns to be cut off at the right.
    OddClip(
        "cropped by matroska",
        "clip.mkv",
        X264,
        "setsar=4/3",
        steps=(partial(replaced, old=b"\x54\xba\x81\x09", new=b"\x54\xcc\x81\x09"),),
    ),
    OddClip(
        "cropped by mp4",
        "clip.mkv",
        X264,
        "setsar=4/3",
        steps=(partial(replaced, old=b"\x54\xba\x81\x09", new=b"\x54\xcc\x81\x09"), (*COPY, "clip.mp4")),
        facts={"rate": Fraction(12000, 499)},
    ),
    OddClip(
        "interlaced h264",
        "clip.mp4",
        (*X264, *INTERLACED, "-x264-params", "tff=1"),
        "tinterlace=interleave_top",
        filmed=24,
        facts={"rate": Fraction(12)},
    ),
    OddClip(
        "interlaced mpeg2",
        "clip.ts",
        (*MPEG2, *INTERLACED, "-bf", "2"),
        "tinterlace=interleave_bottom",
        filmed=24,
        facts={"rate": Fraction(12)},
    ),
    OddClip("interlaced hevc", "clip.mp4", (*X265[:-1], f"{X265_PARAMS}:interlace=tff")),
    OddClip("repeated fields", "clip.mkv", (*MPEG2, "-bf", "2"), steps=(with_repeated_fields,)),
)

# ffmpeg decodes the frames that begin within an edit: as many as sample tables and edit list say. A player may show
# what is left of a frame that an edit cuts in two, but these cuts are between frames.
EDITS = (
    OddClip(
        "cut at its beginning",
        "clip.mp4",
        (*X264, "-g", "12", "-bf", "2"),
        filmed=24,
        frames=18,
        untouched=False,
        steps=(("-ss", "0.25", *COPY, "clip.mp4"),),
    ),
    # It begins with a key frame; what comes after that in the file and before it on the screen is never shown.
    OddClip(
        "cut at an open gop",
        "clip.mp4",
        X265_OPEN,
        filmed=24,
        frames=16,
        untouched=False,
        steps=(("-ss", "0.25", *COPY, "clip.mp4"),),
    ),
    OddClip(
        "cut at its end", "clip.mp4", X264, frames=6, untouched=False, steps=(partial(with_edits, frames=[(0, 6)]),)
    ),
    OddClip(
        "cut to a part of its groups of pictures",
        "clip.mp4",
        (*X264, "-g", "12"),
        filmed=60,
        frames=15,
        untouched=False,
        steps=(partial(with_edits, frames=[(24, 39)]),),
    ),
    # ffmpeg has the second part begin a frame late.
    OddClip(
        "cut in its middle",
        "clip.mp4",
        X264,
        filmed=36,
        frames=24,
        untouched=False,
        variable=True,
        steps=(partial(with_edits, frames=[(0, 12), (24, 36)]),),
    ),
    OddClip(
        "begins before zero",
        "clip.mp4",
        X264,
        frames=7,
        untouched=False,
        steps=((*COPY, *AS_THEY_ARE, *shifted("T-2560"), "clip.mp4"),),
    ),
    OddClip("picture after sound", "clip.mp4", X264, steps=((*SOUND, "-itsoffset", "3", *INPUT, *BOTH, "clip.mp4"),)),
)

TIMES = (
    OddClip("negative times webm", "clip.webm", VP9, steps=((*COPY, *AS_THEY_ARE, *shifted("T-250"), "clip.webm"),)),
    OddClip(
        "begins late",
        "clip.mp4",
        X264,
        steps=((*COPY, "-use_editlist", "0", "clip.mp4"),),
    ),
    OddClip("negative times ts", "clip.ts", X264, steps=((*COPY, *AS_THEY_ARE, "-output_ts_offset", "-3", "clip.ts"),)),
    OddClip("starts after two hours", "clip.mkv", X264, steps=((*COPY, "-output_ts_offset", "7200", "clip.mkv"),)),
    OddClip(
        "the clock of ts starts again",
        "clip.ts",
        X264,
        steps=((*COPY, "-muxdelay", "0", "-output_ts_offset", "95443.5", "clip.ts"),),
    ),
    OddClip(
        "times stand still",
        "clip.mkv",
        (*X264, *NO_B),
        variable=True,
        steps=((*COPY, "-bsf:v", "setts=ts='TS-mod(N,4)*42'", "clip.mkv"),),
    ),
    OddClip(
        "all at one time",
        "clip.mkv",
        (*X264, *NO_B),
        variable=True,
        steps=((*COPY, "-bsf:v", "setts=ts=0", "clip.mkv"),),
    ),
    OddClip(
        "a gap of three hours",
        "clip.mkv",
        X264,
        variable=True,
        steps=((*COPY, *shifted("T+gte(T,250)*3*3600*1000"), "clip.mkv"),),
    ),
    OddClip(
        "a gap of five seconds",
        "clip.mp4",
        X264,
        variable=True,
        facts={"rate": Fraction(24, 11)},
        steps=((*COPY, *shifted("T+gte(T,2560)*5*12288"), "clip.mp4"),),
    ),
    OddClip(
        "a gap of five seconds ts",
        "clip.ts",
        X264,
        variable=True,
        steps=((*COPY, *shifted("T+gte(T,22500)*5*90000"), "clip.ts"),),
    ),
    # ffmpeg closes gaps of ten seconds and more in transport streams.
    OddClip(
        "a gap of a minute ts",
        "clip.ts",
        (*X264, *NO_B),
        steps=((*COPY, *shifted("T+gte(T,22500)*60*90000"), "clip.ts"),),
    ),
    OddClip(
        "a gap motion jpeg",
        "clip.avi",
        (*MJPEG, "-fps_mode", "passthrough"),
        "setpts=PTS+gte(N\\,6)*8*24,format=yuvj420p",
        variable=True,
        adjustments=(converted("yuvj420p", "yuv420p"),),
    ),
    OddClip(
        "a gap mpeg4",
        "clip.avi",
        (*MPEG4, "-bf", "2", "-fps_mode", "passthrough"),
        "setpts=PTS+gte(N\\,6)*8*24",
        variable=True,
    ),
    OddClip("one frame mkv", "clip.mkv", X264, filmed=1, frames=1),
    OddClip("one frame avi", "clip.avi", MPEG4, filmed=1, frames=1),
    OddClip("one frame webm", "clip.webm", VP9, filmed=1, frames=1),
    OddClip("one fragment", "clip.mp4", (*X264, "-movflags", "frag_keyframe+empty_moov"), filmed=1, frames=1),
)

STREAMS = (
    OddClip(
        "cover first",
        "clip.mp4",
        X264,
        steps=((*INPUT, *COVER, *BOTH, "-c:v:1", "mjpeg", "-disposition:v:1", "attached_pic", "clip.mp4"), cover_first),
    ),
    OddClip(
        "chapters",
        "clip.mp4",
        X264,
        steps=((*INPUT, *CHAPTERS, "-map", "0", "-c", "copy", "-map_chapters", "1", "clip.mp4"),),
    ),
    OddClip(
        "words of another alphabet", "clip.avi", MPEG4, steps=((*COPY, "-metadata", "title=caf\udce9", "clip.avi"),)
    ),
    OddClip("sound first", "clip.mp4", X264, steps=((*SOUND, *INPUT, *BOTH, "clip.mp4"),)),
    OddClip("words first", "clip.mkv", X264, steps=((*WORDS, *INPUT, *BOTH, "clip.mkv"),)),
    OddClip(
        "second video",
        "clip.mp4",
        X264,
        steps=(
            (
                *INPUT,
                *LARGER,
                *BOTH,
                "-c:v:1",
                "libx264",
                "-disposition:v:0",
                "0",
                "-disposition:v:1",
                "default",
                "clip.mkv",
            ),
        ),
    ),
    OddClip("second video ts", "clip.ts", X264, steps=((*INPUT, *LARGER, *BOTH, "-c:v:1", "mpeg2video", "clip.ts"),)),
    OddClip("packets of 192 bytes", "clip.m2ts", (*X264, "-mpegts_m2ts_mode", "1"), facts={"container": "mpegts"}),
    OddClip("streamed matroska", "clip.mkv", (*X264, "-seekable", "0"), facts={"stream_duration_s": None}),
    OddClip("recorded by a browser", "clip.webm", (*VP8, "-seekable", "0"), steps=(without_durations,)),
    OddClip(
        "fragmented mp4", "clip.mp4", (*X264, "-g", "5", "-movflags", "frag_keyframe+empty_moov+default_base_moof")
    ),
    OddClip(
        "fragmented mov",
        "clip.mov",
        (*X264, "-g", "5", "-movflags", "frag_every_frame+empty_moov+negative_cts_offsets"),
    ),
)

# An open group of pictures that is the first has frames that refer to some before it: nobody can show them.
CODECS = (
    OddClip("film grain", "clip.mkv", AV1_GRAIN),
    OddClip("open gop hevc", "clip.mp4", X265_OPEN, filmed=24, frames=24),
    OddClip("open gop h264", "clip.mp4", X264_OPEN, filmed=24, frames=24),
    OddClip("open gop mpeg2", "clip.ts", (*MPEG2, "-bf", "2", "-g", "6"), filmed=24, frames=24),
    *(
        OddClip(
            f"open gop hevc cut {kind}",
            f"clip.{kind}",
            X265_OPEN,
            filmed=24,
            frames=16,
            untouched=False,
            steps=((*COPY, "-bsf:v", "noise=drop=lt(n\\,5)", f"clip.{kind}"),),
        )
        for kind in ("mkv", "ts")
    ),
    OddClip(
        "open gop h264 cut",
        "clip.mkv",
        X264_OPEN,
        filmed=24,
        frames=16,
        untouched=False,
        steps=((*COPY, "-bsf:v", "noise=drop=lt(n\\,5)", "clip.mkv"),),
    ),
    OddClip(
        "open gop mpeg2 cut",
        "clip.ts",
        (*MPEG2, "-bf", "2", "-g", "6"),
        filmed=24,
        frames=18,
        untouched=False,
        steps=((*COPY, "-bsf:v", "noise=drop=lt(n\\,4)", "clip.ts"),),
    ),
    # Xvid loses the last two of twelve frames before they are coded.
    OddClip("packed b-frames", "clip.avi", ("-c:v", "libxvid", "-bf", "2", "-q:v", "4"), frames=10),
    OddClip("b-frames mpeg4", "clip.mp4", (*MPEG4, "-bf", "2")),
    OddClip("b-frames avi", "clip.avi", (*X264, "-bf", "2")),
    OddClip("intra refresh", "clip.mp4", (*X264, "-x264-params", "intra-refresh=1:keyint=6")),
    OddClip(
        "hidden frames",
        "clip.mkv",
        X264,
        filmed=24,
        frames=24,
        untouched=False,
        steps=(
            (*INPUT, *VP9_TWICE, "1", "-f", "null", "-", "-c", "copy", "clip.mkv"),
            (*INPUT, *VP9_TWICE, "2", "clip.webm"),
        ),
    ),
)


UNEVEN = "settb=1/24000,setpts=(N+floor(N/5)*2)*1000"
AS_TIMED: Args = ("-fps_mode", "passthrough", "-enc_time_base", "1:24000")

DISORDER = (
    OddClip(
        "times in disorder mkv",
        "clip.mkv",
        (*X264, *NO_B),
        variable=True,
        steps=((*COPY, *AS_THEY_ARE, "-bsf:v", "setts=dts=DTS-1000:pts='PTS+100*eq(mod(N,3),1)'", "clip.mkv"),),
    ),
    OddClip(
        "times run backwards",
        "clip.webm",
        VP9,
        variable=True,
        steps=((*COPY, *AS_THEY_ARE, "-bsf:v", "setts=dts=DTS-1000:pts='1000-PTS'", "clip.webm"),),
    ),
    OddClip(
        "a gap of a minute ts, b-frames",
        "clip.ts",
        X264,
        variable=True,
        steps=((*COPY, *shifted("T+gte(T,22500)*60*90000"), "clip.ts"),),
    ),
    OddClip(
        "three frames at once",
        "clip.mp4",
        (*X264, *NO_B, *AS_TIMED),
        "settb=1/24000,setpts=floor(N/3)*3000+mod(N\\,3)",
        variable=True,
    ),
)

MATRICES = (
    OddClip(
        "constant luminance",
        "clip.mp4",
        X264,
        steps=((*COPY, "-bsf:v", "h264_metadata=matrix_coefficients=10", "clip.mp4"),),
    ),
    OddClip(
        "YCgCo",
        "clip.mp4",
        X264,
        f"{FULL},format=yuvj420p",
        steps=((*COPY, "-bsf:v", "h264_metadata=matrix_coefficients=8", "clip.mp4"),),
        adjustments=(converted("yuvj420p", "yuv420p"),),
    ),
    OddClip(
        "ICtCp 12 bits",
        "clip.mp4",
        X265,
        "format=yuv420p12le,setparams=range=tv:color_primaries=bt2020:colorspace=ictcp:color_trc=smpte2084",
        pix_fmt="yuv420p10le",
        adjustments=(converted("yuv420p12le", "yuv420p10le"),),
    ),
)

RATES = (
    OddClip(
        "recorded by a browser, uneven",
        "clip.webm",
        (*VP8, *AS_TIMED, "-seekable", "0"),
        UNEVEN,
        steps=(without_durations,),
        filmed=60,
        frames=60,
        variable=True,
    ),
    OddClip("uneven ts", "clip.ts", (*X264, *NO_B, *AS_TIMED), UNEVEN, filmed=60, frames=60, variable=True),
)

ODD_CLIPS = (*SIZES, *FORMATS, *ALPHA, *GEOMETRY, *EDITS, *TIMES, *STREAMS, *CODECS, *DISORDER, *MATRICES, *RATES)

# Clips from which no row can be made, and why.
REFUSED = (
    (
        OddClip("one frame without a rate ts", "clip.ts", X264, filmed=1),
        "its average frame rate, 0, is not within 1 to 240 per second",
    ),
    (
        OddClip(
            "one frame without a rate", "clip.webm", (*VP9, "-seekable", "0"), filmed=1, steps=(without_durations,)
        ),
        "its average frame rate, 0, is not within 1 to 240 per second",
    ),
    (
        OddClip(
            "all at one time without a rate",
            "clip.webm",
            VP9,
            steps=((*COPY, "-bsf:v", "setts=ts=0", "-seekable", "0", "clip.webm"), without_durations),
        ),
        "its average frame rate, 0, is not within 1 to 240 per second",
    ),
    (
        OddClip(
            "hours between frames",
            "clip.mp4",
            X264,
            steps=((*COPY, *shifted("T+gte(T,2560)*3*3600*12288"), "clip.mp4"),),
        ),
        "it lasts 10800.5 s",
    ),
    (
        OddClip("nothing to be shown", "clip.mp4", X264, steps=(partial(with_edits, frames=[(50, 60)]),)),
        "decode failed: it has no frame",
    ),
    (
        OddClip(
            "h264 that begins after its headers",
            "clip.mkv",
            X264_OPEN,
            filmed=24,
            steps=((*COPY, "-bsf:v", "noise=drop=lt(n\\,5)", "clip.ts"),),
        ),
        "it could not be probed: its video stream cannot be decoded",
    ),
    (
        # What ends one recording and what begins the next cannot be told from packets that were lost between them.
        OddClip("two recordings in one file", "clip.ts", X264, steps=(twice,)),
        "decode failed: Packet corrupt",
    ),
)
