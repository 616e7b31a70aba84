"""What strangers wrote, shown: it is read, and does nothing else."""

import time

import pytest

from frnr_assets.words import code_span, harmless, harmless_lines, markdown, public_url, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("bell\a, delete\x7f, null\0", r"bell\x07, delete\x7f, null\x00"),
        ("over\rwritten", r"over\rwritten"),
        ("clip\u202e4pm.exe\u202c", r"clip\u202e4pm.exe\u202c"),
        ("\u2066isolated\u2069", r"\u2066isolated\u2069"),
        ("one\u2028two\u2029three", r"one\u2028two\u2029three"),
        ("half a character \udc80", r"half a character \udc80"),
        ("Straße, видео, 動画, 🎬, عربى", "Straße, видео, 動画, 🎬, عربى"),
        (r"C:\clips\new", r"C:\clips\new"),
    ],
)
def test_a_terminal_is_told_nothing_and_a_person_sees_what_is_there(text: str, shown: str) -> None:
    assert harmless(text) == shown
    assert harmless_lines(text) == shown
    shown.encode()


def test_a_name_cannot_pretend_to_be_a_line_of_ours_and_lines_that_are_meant_stay() -> None:
    text = "odd.mp4\n\tfrnr: 9 rows in rows.jsonl"
    assert harmless(text) == r"odd.mp4\n\tfrnr: 9 rows in rows.jsonl"
    assert harmless_lines(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("![](https://host/seen.png)", r"!\[\](https://host/seen.png)"),
        ("a | b", r"a \| b"),
        ("`code` *strong* ~~gone~~", r"\`code\` \*strong\* \~\~gone\~\~"),
        ("_leaning_ but a_name_of_a_file", r"\_leaning\_ but a_name_of_a_file"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        ("\\[not escaped twice\\](x)\\", "\\\\\\[not escaped twice\\\\\\](x)\\\\"),
        ("\x1b[1m\n# title", r"\x1b\[1m\n# title"),
        ("reading a.jsonl failed: line 3", "reading a.jsonl failed: line 3"),
    ],
)
def test_markdown_shows_a_strangers_text_and_renders_none_of_it(text: str, escaped: str) -> None:
    assert markdown(text) == escaped


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("clip|23", "`clip|23`"),
        ("<b>", "`<b>`"),
        ("a`b", "``a`b``"),
        ("`![](https://host/seen.png)``", "``` `![](https://host/seen.png)`` ```"),
        ("two\nlines", r"`two\nlines`"),
        (" ", "`   `"),
        ("", "`  `"),
    ],
)
def test_a_name_cannot_end_the_code_that_it_is_shown_as(name: str, span: str) -> None:
    assert code_span(name) == span


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://host:8080/clips/a.mp4", "https://host:8080/clips/a.mp4"),
        ("https://host/@somebody/a.mp4", "https://host/@somebody/a.mp4"),
        ("https://user:SECRET@host/a.mp4", "https://***@host/a.mp4"),
        ("https://SECRET@host/a.mp4", "https://***@host/a.mp4"),
        ("https://user:SEC/RET@host/a.mp4", "https://***@host/a.mp4"),
        ("https://user:SEC@RET@host/a.mp4", "https://***@host/a.mp4"),
        ("https://host/a.mp4?expires=9&sig=SECRET", "https://host/a.mp4?expires=***&sig=***"),
        ("https://host/a.mp4?SECRET", "https://host/a.mp4?***"),
        ("https://host/a.mp4?U0VDUkVU==", "https://host/a.mp4?***"),
        ("https://host/a.mp4?sig=SEC RET", "https://host/a.mp4?sig=***"),
        ("https://host/a.mp4#token=SECRET", "https://host/a.mp4#token=***"),
        ("HTTPS://user:SECRET@host", "HTTPS://***@host"),
        ("user:SECRET@host/a.mp4?sig=SECRET", "***@host/a.mp4?sig=***"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_secrets_and_names_its_file_all_the_same(url: str, public: str) -> None:
    assert public_url(url) == public
    assert public_url(public) == public


@pytest.mark.parametrize(
    ("text", "public"),
    [
        (
            r'{"src": "a.mp4", "url": "https:\/\/user:SECRET@host\/a.mp4?sig=SECRET\u0026e=SECRET", "mos": 3}',
            r'{"src": "a.mp4", "url": "https:\/\/***@host\/a.mp4?sig=***\u0026e=***", "mos": 3}',
        ),
        (
            "tried https://user:SECRET@a/x and http://b/?k=SECRET\nin vain",
            "tried https://***@a/x and http://b/?k=***\nin vain",
        ),
        (r'"https://host/a\u003fsig=SECRET"', r'"https://host/a\u003fsig=***"'),
        ("mail to somebody@host, 50 % off?", "mail to somebody@host, 50 % off?"),
    ],
)
def test_so_is_a_url_that_a_text_quotes_and_the_rest_of_the_text_stays(text: str, public: str) -> None:
    assert without_secrets(text) == public


@pytest.mark.parametrize("text", ["x" * 200_000, "a:" * 100_000, f"http://{'a:' * 100_000}", "://" * 60_000])
def test_a_long_text_does_not_stop_everything_else(text: str) -> None:
    # It held all threads for a minute when it went through a text again and again.
    started = time.process_time()
    without_secrets(text)
    public_url(text)
    assert time.process_time() - started < 5
