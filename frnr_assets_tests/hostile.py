"""Texts that would act on whoever shows them instead of treating them as texts."""

import re

CLEARS_THE_SCREEN = "\x1b[2J"
SCRIPT = "<script>alert(1)</script>"
LINK = "[x](javascript:alert(1))"
BEACON = "![](http://127.0.0.1:9/seen.png)"
REVERSED = "\u202e4pm.exe"

# What may be the name of a clip's file, and what stands only in the other texts of manifests and in those of tools.
NAME = f"{SCRIPT.replace('/', '')}{LINK}|"
TEXT = f"{CLEARS_THE_SCREEN}\x9b2J{SCRIPT}{LINK}{BEACON}|{REVERSED}"

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# An escaped character, or code.
_SHOWN = re.compile(r"\\.|(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)")


def acts(text: str) -> list[str]:
    """Return what of a text a terminal would obey, or read in another order."""
    return _ACTS.findall(text)


def renders(markdown: str) -> list[str]:
    """Return what a Markdown text has of links, images and HTML."""
    return re.findall(r"<[a-z/!].*|!?\[.*", _SHOWN.sub("", markdown), re.IGNORECASE)
