"""The reader of JSON in model files: what Python reads is read, but for what readers do not agree on."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from damage import raw, wrapped
from test_model_file import Tree, message

BAD_JSON = [
    "",
    " ",
    "{",
    "}",
    "[",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    "{a:1}",
    "{'a':1}",
    '{"a" 1}',
    "1 2",
    "01",
    "-",
    "-01",
    "+1",
    ".5",
    "1.",
    "1.e5",
    "1e",
    "1e+",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "-Infinity",
    "nul",
    "True",
    "tru",
    "18446744073709551616",
    "-9223372036854775809",
    "1e309",
    "-1e309",
    "9" * 400 + ".5",
    '"',
    '"a',
    '"\\"',
    '"\\x"',
    '"\\u12"',
    '"\\u12g4"',
    '"\\ud800"',
    '"\\ud800\\u0041"',
    '"\\udc00"',
    '"\n"',
    '"\x00"',
    '"\t"',
    '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}',
    "[" * 66 + "]" * 66,
    "\ufeff1",
    "/**/1",
    "[1]//",
]
GOOD_JSON = [
    "0",
    "-0",
    "1",
    "-1",
    "18446744073709551615",
    "-9223372036854775808",
    "0.0",
    "-0.0",
    "1.5e300",
    "1e308",
    "1E-400",
    "0e999999999999",
    "1.7976931348623157e308",
    "true",
    "null",
    '""',
    '"é☃😀"',
    '"\\u00e9\\ud83d\\ude00\\n\\/\\b\\"\\\\"',
    "[]",
    "{}",
    "[ ]",
    "{ }",
    " [1 , 2 ] \n\r\t",
    '{"a":{"a":[{}]},"b":[]}',
    "[" * 64 + "]" * 64,
    '"\x7f"',
    '"\\u0000"',
]
BAD_UTF8 = [
    b"\x80", b"\xc3", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98",
]  # fmt: skip


def description(text: str) -> str:
    """What is said of a file whose description is that text, as the member of an object."""
    return message(wrapped('{"format": 2, "other": ' + text + "}"))


@pytest.mark.parametrize("text", BAD_JSON)
def test_json_that_is_none(text: str) -> None:
    assert "is not JSON: " in description(text)


@pytest.mark.parametrize("text", GOOD_JSON)
def test_json_that_is_some(text: str) -> None:
    json.loads(text)
    assert description(text) == "expected a model of format 1, got 2"


@pytest.mark.parametrize("text", BAD_UTF8)
def test_texts_that_are_not_utf8(text: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        text.decode()
    assert "not JSON: a text that is not UTF-8" in message(raw(b'{"' + text + b'":1}'))


def unique(pairs: list[tuple[str, Any]]) -> Tree:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def within_limits(text: str) -> bool:
    """Whether Python reads that JSON, and readers agree on it."""

    def number(digits: str) -> float:
        if not np.isfinite(float(digits)) or (digits.lstrip("-").isdecimal() and not -(2**63) <= int(digits) < 2**64):
            raise ValueError("too large")
        return float(digits)

    try:
        tree = json.loads(text, object_pairs_hook=unique, parse_constant=int, parse_float=number, parse_int=number)
        json.dumps(tree, ensure_ascii=False).encode()  # half of a surrogate pair has no UTF-8
    except ValueError:
        return False
    return True


def test_json_agrees_with_pythons() -> None:
    rng = random.Random(0)
    seeds = [text for text in GOOD_JSON + BAD_JSON if len(text) < 40]
    seeds += ['{"a": [1, 2.5e-3, {"b": "\\u00e9"}], "c": -12, "d": [true, false, null]}'] * 20
    read_by_both = 0
    for _ in range(3000):
        text = rng.choice(seeds)
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(["", *'0123456789{}[]",:-+.eE\\ tfn']) + text[at + rng.randrange(2) :]
        fine = within_limits('{"format": 2, "other": ' + text + "}")
        assert ("is not JSON" not in description(text)) == fine, text
        read_by_both += fine
    assert 600 < read_by_both < 2400
