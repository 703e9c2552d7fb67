"""Why the kubelet does not have a pod: the reason out of its log, as klog writes it."""

import pytest

from harness.guest import refusal

_AT = "E1125 14:02:11.123456     412 file.go:108] "


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            r"""Unable to process watch event" err="can't process config file \"/m/odd.yaml\": [os: Required]""",
            "[os: Required]",
        ),
        (
            r"""Could not process manifest file" err="invalid: [labels: Invalid value: \"two words\"]" path="/m/odd.yaml""",
            'invalid: [labels: Invalid value: "two words"]',
        ),
        (
            r"""Could not process manifest file" err="/m/odd.yaml: couldn't parse as pod(line 3), please check config file""",
            "line 3",
        ),
        (r"""Could not process manifest file" err="a \x00 b" path="/m/odd.yaml""", r"a \x00 b"),
        (r"""Could not process manifest file" err="not ours" path="/m/other.yaml""", None),
        (r"""Caches are synced" path="/m/odd.yaml""", None),
    ],
)
def test_the_reason_is_told_in_its_own_words(line: str, reason: str | None) -> None:
    log = f'{_AT}"Kubelet version"\n{_AT}"{line}"\n{_AT}"another line"\n'
    assert refusal.reason_in(log, "odd.yaml") == reason


def test_the_last_reason_counts() -> None:
    lines = [f'{_AT}"Could not process manifest file" err="{words}" path="/m/odd.yaml"' for words in ("first", "second")]
    assert refusal.reason_in("\n".join(lines), "odd.yaml") == "second"


def test_a_file_is_asked_for_by_its_name_alone() -> None:
    command = refusal.reading_command("a b.yaml")
    assert "grep -F '/a b.yaml'" in command
