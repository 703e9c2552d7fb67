"""Why a file is no YAML: what its reader says, or the cause of that, which often is in a line before."""

import re
from collections.abc import Sequence

import yaml

# Of the causes found, the first counts.
_CAUSES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"(?P<it><{7}|={7}|>{7}|\|{7})(?: |$)", "{it} is the mark of a merge conflict: settle it."),
        (r"[^'\"#]*?(?P<it>\{\{|\{%|\{#|<%)", "{it} is a template's: render it first."),
        (r"[ -]*\t", "it is indented with a tab; write spaces."),
        (
            "[^'\"#]*?(?P<it>[\u00a0\u1680\u2000-\u200f\u202f\u205f\u2060\u3000\ufeff])",
            "it has the invisible character U+{code:04X}: write a space, or nothing.",
        ),
        ("[ -]*(?P<it>[\u2010-\u2015\u2022])", "it begins with {it}; an entry of a list begins with the dash -."),
        ("[ -]*\\w+(?P<it>\uff1a)", "{it} is no colon: write :."),
        (r" *(?P<it>[A-Za-z][\w-]*:)[^\s/:]\S*$", "{it} has no space behind its colon: write one."),
    )
)
# What the reader of YAML calls a word whose first letter stands for something else.
_NO_WORD = ("while scanning an alias", "while scanning an anchor", "while scanning a tag")


def cause(broken: yaml.MarkedYAMLError, lines: Sequence[str]) -> tuple[int, str]:
    """The line of the cause, from 1, and what it is; `lines` are the file's, at least one."""
    mark = broken.problem_mark or broken.context_mark
    began = broken.context_mark or mark
    if mark is None or began is None:
        return 1, f"is no YAML: {broken.problem}."
    # libyaml puts a premature end after the last line.
    line = min(mark.line + 1, len(lines))
    for pattern, words in _CAUSES:
        for number in (line, began.line + 1, line - 1):
            if 0 < number <= len(lines) and (found := pattern.match(lines[number - 1])):
                it = found.groupdict().get("it", "")
                return number, f"is no YAML: {words.format(it=it, code=ord(it[:1] or ' '))}"
    if "cannot start any token" in str(broken.problem) or broken.context in _NO_WORD:
        first = lines[began.line][began.column : began.column + 1]
        return began.line + 1, f"is no YAML: no word begins with {first}: put it in quotes."
    said = ", ".join(part for part in (broken.context, broken.problem) if part)
    return line, f"is no YAML: {said}: look at indentation and quotes here and above."
