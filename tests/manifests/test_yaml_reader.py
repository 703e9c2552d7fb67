"""YAML as the kubelet reads it: values, lines, and that no file costs more than a moment."""

import re
import time
from typing import Any

import pytest
import yaml

from harness.manifests import yaml_reader
from harness.manifests.finding import Finding, Severity
from harness.manifests.yaml_reader import Document, parse


def _value(word: str) -> Any:
    read = parse(f"a: {word}\n".encode())
    assert read.root is not None
    assert not read.findings
    return read.root.plain()["a"]


def _said(read: Document) -> list[tuple[int, str]]:
    return [(finding.line, finding.words) for finding in read.findings]


def _refusal(text: str | bytes) -> tuple[int, str]:
    read = parse(text.encode() if isinstance(text, str) else text)
    assert read.root is None
    (said,) = _said(read)
    return said


# What a kubelet 1.34 made of each, asked through sigs.k8s.io/yaml.
@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("y", True),
        ("No", False),
        ("OFF", False),
        ("tRue", "tRue"),
        ("~", None),
        ("", None),
        ("8250", 8250),
        ("+1", 1),
        ("-0x1F", -31),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("08", 8.0),
        ("1_000", 1000),
        ("_1", "_1"),
        ("0x", "0x"),
        ("18446744073709551615", 18446744073709551615),
        ("18446744073709551616", 18446744073709551616.0),
        ("-9223372036854775809", -9223372036854775809.0),
        ("0x1ffffffffffffffff", "0x1ffffffffffffffff"),
        ("9" * 400, "9" * 400),
        ("1e3", 1000.0),
        ("1e400", "1e400"),
        ("5.", 5.0),
        (".5_0", 0.5),
        (".5_", ".5_"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("2024-13-45", "2024-13-45"),
        ("=", "="),
        (".infinity", ".infinity"),
        ('"8250"', "8250"),
        ("'y'", "y"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ('!!int "5"', 5),
        ("|-\n  8250", "8250"),
    ],
    ids=lambda word: str(word)[:20],
)
def test_a_word_is_what_the_kubelet_takes_it_for(word: str, value: Any) -> None:
    read = _value(word)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(("key", "name"), [("yes", "true"), ("1", "1"), ("1.5", "1.5"), ('"yes"', "yes"), ("word", "word")])
def test_a_key_becomes_a_text(key: str, name: str) -> None:
    read = parse(f"{key}: x\n".encode())
    assert read.root is not None
    assert read.root.plain() == {name: "x"}


def test_a_value_stands_in_the_line_of_its_key_and_an_item_in_its_own() -> None:
    root = parse(b"# one\na:\n  b: >\n    folded\n    text\n  c:\n  - x\n  - y: 1\n    z: 2\n").root
    assert root is not None
    a = root.get("a")
    assert a is not None
    c = a.get("c")
    assert c is not None
    assert isinstance(c.value, list)
    assert [node.line for node in (root, a, c, *c.value)] == [2, 2, 6, 7, 8]
    assert (c.value[1].get("z") or root).line == 9


def test_an_alias_stands_in_its_own_line_and_is_a_copy() -> None:
    root = parse(b"a: &x\n- one\nb: *x\n").root
    assert root is not None
    assert (root.get("b") or root).line == 3
    plain = root.plain()
    plain["b"].append("two")
    assert plain["a"] == ["one"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"b": 1, "c": 3}),
        ("a: &x {b: 1, c: 2}\nd: {c: 3, <<: *x}", {"b": 1, "c": 2}),
        ("a: &x {b: 1}\nd: {<<: [*x, {b: 2, c: 3}]}", {"b": 1, "c": 3}),
        ('d: {"<<": {b: 1}}', {"<<": {"b": 1}}),
    ],
    ids=["before", "behind", "first-of-a-list", "quoted"],
)
def test_a_merge_key_works_in_the_order_of_the_file(text: str, value: object) -> None:
    root = parse(text.encode()).root
    assert root is not None
    assert root.plain()["d"] == value


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("---\n---\n", 1, "is empty"),
        ("a: 1\n---\nb: 2\n", 3, "is a second document; the kubelet reads one"),
        ("---\n---\nb: 2\n", 1, "is empty, and all that the kubelet reads"),
        ("a: 1\n\n\tb: 2\n", 3, "is indented with a tab; write spaces"),
        ("a:\n\tb: 2\n", 2, "is indented with a tab; write spaces"),
        ("a: [\n", 1, "is no YAML: while parsing a flow node"),
        ("a: @b\n", 1, "is no YAML: no word begins with @: put it in quotes"),
        ("a: 1\nb: [`c`]\n", 2, "is no YAML: no word begins with `: put it in quotes"),
        ("a: 1\nbü: %c\n", 2, "is no YAML: no word begins with %: put it in quotes"),
        ("a: 1\nb: *c\n", 2, r"the alias \*c has no anchor &c"),
        ("a: &c\n- *c\n", 2, r"the alias \*c stands in what it stands for"),
        ("a: &c 1\nb: &c [*c]\n", 2, r"the alias \*c stands in what it stands for"),
        ("a: 1\n<<: 5\n", 2, "<< takes a mapping"),
        ("a: 1\n<<: [5]\n", 2, "<< takes a mapping"),
        ("%YAML 1.2\n---\na: 1\n", 1, "names a version of YAML other than 1.1"),
        ("a: 1\nb: 'x\0y'\n", 2, r"has the control character '\\x00'"),
        ("a: 1\nb: x\x1b[31m\n", 2, r"has the control character '\\x1b'"),
        ("\n{a: 1}\n", 2, "begins with { and so is JSON to the kubelet"),
        ('{"a": 1} # words\n', 1, r"is no whole JSON \(extra data\): take out what stands behind its last brace"),
        ('{"a": 1,}\n', 1, r"is no whole JSON .*: take out the comma before the }"),
        ('{"a": 1, // one\n"b": 2}\n', 1, r"is no whole JSON .*: take out the comment, as JSON has none"),
        ('{"a":\nNaN}', 2, "NaN is no number in JSON"),
        ("a: &l [{b: 1}]\nc:\n  <<: *l\n", 3, "<< takes no list by an alias"),
        ("a:\n  name: {{ .Values.name }}\n", 2, "has a mapping as a key, as a template with {{ }} has: render it first"),
        ("a: 1\n".encode("utf-32"), 1, "is UTF-32: save it as UTF-8"),
        ("a: größe\n".encode("latin-1"), 1, "is no UTF-8: it has the byte 0xf6"),
        (b"a: 1\nb: \xff\n", 2, "is no UTF-8: it has the byte 0xff"),
        ("a: 1\n".encode("utf-16"), 1, "is UTF-16: save it as UTF-8"),
        ("a: 1\n".encode("utf-16-be"), 1, "is UTF-16, without its mark: save it as UTF-8"),
        ("a: 1\n".encode("utf-16-le"), 1, "is UTF-16, without its mark: save it as UTF-8"),
        ("\ufeff\ufeffa: 1\n", 1, "begins with two byte order marks, of which the kubelet knows one"),
        ("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> x\n", 2, "<<<<<<< is the mark of a merge conflict: settle it"),
        ("a: 1\n>>>>>>> x\nb: 3\n", 2, ">>>>>>> is the mark of a merge conflict"),
        ("{{- if .Values.x }}\na: 1\n{{- end }}\n", 1, "{{ is a template's: render it first"),
        ("a:\n{{ toYaml .Values.a | indent 2 }}\nb: 2\n", 2, "{{ is a template's"),
        ("a:\n{% for c in cs %}\n- b\n{% endfor %}\n", 2, "{% is a template's"),
        ("{# words #}\na: 1\nb: 2\n", 1, "{# is a template's"),
        ("<% if x %>\na: 1\n", 1, "<% is a template's"),
        ("a: 1 # as {{ .a }}\nb: @c\n", 2, "no word begins with @"),
        ("a: ['{{.Names}}']\nb: @c\n", 2, "no word begins with @"),
        ("a:\n-\tb: 1\n", 2, "is indented with a tab; write spaces"),
        ("a:\n\u00a0 b: 1\n  c: 2\n", 2, r"has the invisible character U\+00A0: write a space, or nothing"),
        ("a:\n  b:\u00a01\n  c: 2\n", 2, r"has the invisible character U\+00A0"),
        ("a: 1\n\ufeffb: 2\n", 2, r"has the invisible character U\+FEFF"),
        ("a: 1\nb:c\nd: 2\n", 2, "b: has no space behind its colon: write one"),
        ("a:\n  b:c\n  d: 2\n", 2, "b: has no space behind its colon: write one"),
        ("a:\n  \u2013 b: 1\n    c: 2\n", 2, "it begins with \u2013; an entry of a list begins with the dash -"),
        ("a: 1\nb\uff1a 2\nc: 3\n", 2, "\uff1a is no colon: write :"),
        ("a:\n- *.log\n", 2, r"no word begins with \*: put it in quotes"),
        ("a: && b\n", 1, "no word begins with &: put it in quotes"),
        (b"\xfe\xff\0a", 1, "is UTF-16: save it as UTF-8"),
    ],
)
def test_what_the_kubelet_could_not_read_is_said_with_its_line(text: str | bytes, line: int, says: str) -> None:
    where, words = _refusal(text)
    assert where == line
    assert re.search(says, words)


@pytest.mark.parametrize(
    ("text", "line", "says", "value"),
    [
        ("a:\n  on: b\n", 2, 'on is read as the key true: write "on" if it is to stay as it is.', {"a": {"true": "b"}}),
        ("0x10: b\n", 1, '0x10 is read as the key 16: write "0x10" if it is to stay as it is.', {"16": "b"}),
        ("a: !own 5\n", 1, "the kubelet drops the tag '!own': take it out.", {"a": "5"}),
        ("a: !vault b\n", 1, "the kubelet drops the tag '!vault': take it out.", {"a": "b"}),
        ("a: !Sub [b]\n", 1, "the kubelet drops the tag '!Sub': take it out.", {"a": ["b"]}),
        ("a: !!own b\n", 1, "the kubelet drops the tag '!!own': take it out.", {"a": "b"}),
        (
            "a: b\n# c\N{LINE SEPARATOR}d: e\n",
            2,
            "has the character U+2028, which ends a line in YAML and in no editor: take it out.",
            {"a": "b", "d": "e"},
        ),
    ],
)
def test_what_is_read_otherwise_than_it_looks_is_a_hint(text: str, line: int, says: str, value: object) -> None:
    document = parse(text.encode())
    assert document.root is not None
    assert document.root.plain() == value
    assert document.findings == (Finding(line, says, Severity.HINT),)
    assert document.errors == ()


def test_tabs_may_stand_behind_json() -> None:
    document = parse(b'{"a": 1}\n\n\t\n')
    assert document.findings == ()
    assert document.root is not None
    assert document.root.plain() == {"a": 1}


@pytest.mark.parametrize("text", ["true: b\n", "16: b\n", "'on': b\n", '{"a": "\N{LINE SEPARATOR}"}'])
def test_what_is_read_as_it_looks_has_no_hint(text: str) -> None:
    assert parse(text.encode()).findings == ()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a is there twice, first in line 1"),
        ("c: {a: 1, a: 2}\n", 1, "a is there twice"),
        ('{"a": 1,\n"a": 2}', 2, "a is there twice, first in line 1"),
        ("1: a\n'1': b\n", 2, "1 is there twice"),
        ("a: 1\n~: 2\n", 2, "has a list or nothing as a key"),
        ("a: 1\n? [b]\n: 2\n", 2, "has a list or nothing as a key"),
        ("a: -.inf\n", 1, 'is no number that the kubelet can read: write "-.inf"'),
        ("a: .NaN\n", 1, 'is no number that the kubelet can read: write ".NaN"'),
        ("a: !!binary aGk=\n", 1, "is tagged !!binary"),
        ("a: !!null 5\n", 1, "is tagged !!null, which 5 is not: take the tag out."),
        ("a: !!int true\n", 1, "is tagged !!int, which true is not"),
    ],
)
def test_a_fault_of_one_value_leaves_the_rest_readable(text: str, line: int, says: str) -> None:
    read = parse(text.encode())
    assert read.root is not None
    ((where, words),) = _said(read)
    assert where == line
    assert says in words


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa: 1\n",
        "a: 1\r\n",
        "a:\t1\t# words\n",
        "%YAML 1.1\n---\na: 1\n",
        "# words\n---\na: 1\n...\n",
        "a: 1\n---\n",
        '{"a": 1}\n',
    ],
    ids=["byte-order-mark", "crlf", "tab-between", "version", "comment-first", "nothing-behind", "json"],
)
def test_what_the_kubelet_reads_is_read(text: str) -> None:
    read = parse(text.encode())
    assert read.root is not None
    assert read.root.plain() == {"a": 1}
    assert not read.findings


def _laughs(levels: int) -> str:
    lists = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, levels)]
    return "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(lists)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_laughs(50), "more than 50000 values"),
        (_laughs(6).replace("x, x", "{<<: {a: 1}}, x"), "more than 50000 values"),
        ("[" + "a," * 500_000 + "]", "more than 50000 values"),
        ("[" * 1_000_000, "deeper than 64 levels"),
        ("{a: " * 200_000, "deeper than 64 levels"),
        ("- " * 500_000, "deeper than 64 levels"),
        ("? " * 500_000, "deeper than 64 levels"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40, "deeper than 64 levels"),
    ],
    ids=["laughs", "laughing-merges", "long", "lists", "mappings", "dashes", "keys", "alias"],
)
def test_a_file_that_grows_when_read_is_refused_at_once(text: str, says: str) -> None:
    began = time.process_time()
    assert says in _refusal(text)[1]
    assert time.process_time() - began < 1


def test_aliases_within_the_limit_are_written_out() -> None:
    root = parse(_laughs(3).encode()).root
    assert root is not None
    assert root.plain()["a2"] == [[["x"] * 10] * 10] * 10


def test_without_libyaml_an_escape_beyond_unicode_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    assert "is no YAML" in _refusal('a: "\\UFFFFFFFF"')[1]


def test_half_of_a_pair_of_escapes_in_json_is_read_as_go_reads_it() -> None:
    read = parse(rb'{"a": "\ud83d\ude00", "b": "\ud800", "c": "\\ud800"}')
    assert read.root is not None
    assert read.root.plain() == {"a": "\N{GRINNING FACE}", "b": "\N{REPLACEMENT CHARACTER}", "c": "\\ud800"}
