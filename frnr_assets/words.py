"""Text that comes from outside, made harmless for where a person reads it: a terminal, Markdown, a log.

Names and columns of manifests, what tools and servers say, and messages that quote these are written by strangers.
"""

import re

# Control characters move a terminal's cursor, clear it or end a line; the others are line ends, the marks that show a
# text in another order than it has, and half characters, which no file or terminal takes.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# What begins a link, an image, HTML, code, emphasis or a cell of a table; and a backslash that would undo the one
# before the next character.
_MARKUP = re.compile(r"[`*\[\]<>|&~]|(?<!\w)_|_(?!\w)|\\(?=[^\w\s]|_|$)")

# The slashes as they are, or as JSON may have them.
_URL = re.compile(r'([a-z][a-z0-9+.-]{0,31}:(?:\\?/){2})([^\s"<>]*)', re.IGNORECASE)
# A password may have a slash in it that nobody escaped.
_USER = re.compile(r"[^/?#@:]*:[^?#]*@|[^/?#]*@")
_QUERY = re.compile(r"(\?|#|\\u003f)(.+)", re.IGNORECASE | re.DOTALL)
# Not a padded secret without a name.
_PARAMETER = re.compile(r"[^=]{1,64}=(?=[^=])")
_SEPARATOR = re.compile(r"([&;#]|\\u0026)")
_HIDDEN = "***"


def harmless(text: str) -> str:
    """Return a text on one line, with visible escapes for whatever would act on a terminal instead of being read."""
    return _UNSEEN.sub(_escaped, text)


def harmless_lines(text: str) -> str:
    """Return a text of several lines that does nothing to a terminal: only line feeds and tabs are left as they are."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in "\n\t" else _escaped(found), text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def markdown(text: str) -> str:
    """Return Markdown that shows a text on one line, in a sentence or in a cell of a table, without rendering it.

    A bare web address still becomes a link to itself, as everywhere in the UI.
    """
    return _MARKUP.sub(r"\\\g<0>", harmless(text))


def code_span(text: str) -> str:
    """Return Markdown that shows a name as code; not for a table, whose cells end at a bar even within code."""
    shown = harmless(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if not shown.strip(" `") or shown[0] in " `" or shown[-1] in " `" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def without_secrets(text: str) -> str:
    """Return a text without what is secret in the URLs that it quotes: user, password and the values of queries."""
    return _URL.sub(lambda found: found[1] + _public(found[2]), text)


def public_url(url: str) -> str:
    """Return a URL, whole or broken, without user, password and the values of its query."""
    start = _URL.match(url)
    scheme = start[1] if start else ""
    return scheme + _public(url.removeprefix(scheme))


def _public(rest: str) -> str:
    """Hide what is secret in what follows the scheme of a URL."""
    named = _USER.sub(f"{_HIDDEN}@", rest, count=1) if _USER.match(rest) else rest
    return _QUERY.sub(lambda query: query[1] + _values_hidden(query[2]), named)


def _values_hidden(query: str) -> str:
    parts = _SEPARATOR.split(query)
    # Between them, at the odd places, is what separates them.
    parts[::2] = map(_value_hidden, parts[::2])
    return "".join(parts)


def _value_hidden(parameter: str) -> str:
    name = _PARAMETER.match(parameter)
    return f"{name[0] if name else ''}{_HIDDEN}" if parameter else ""
