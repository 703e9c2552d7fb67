"""Pages of documentation: what they show is read with its lines, and neither a page nor its completion goes stale unseen."""

import re
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.manifests.page import read
from tests.manifests.kettle_page import PAGE, POD, changed


def test_a_page_is_a_pod_and_its_one_shots_with_their_places(page: Path) -> None:
    found = read(page)
    assert (found.pod.line, found.pod.headings) == (7, ("Kettle",))
    assert [(one.node.plain()["name"], one.line) for one in found.one_shots] == [("pour", 30), ("fetch", 35), ("leaves", 45)]
    assert found.one_shots[2].headings == ("Kettle", "Before tea", "Pour")
    assert found.one_shots[1].node.plain() == {"image": "tea/fetch:v2", "name": "fetch", "args": ["--from", "well"]}


@pytest.mark.parametrize(
    ("opening", "indent", "closing"),
    [
        ("```yml", 0, "```"),
        ("```YAML", 0, "  ```"),
        ("````yaml", 0, "`````"),
        ("~~~yaml", 0, "~~~  "),
        ("``` yaml", 0, "```"),
        ('```yaml title="a.yaml" hl_lines="1"', 0, "```"),
        ('``` { .yaml .annotate title="a.yaml" }', 0, "```"),
        ("   ```yaml", 3, "   ```"),
        ("         ```yaml", 9, "         ```"),
        ("1. ```yaml", 3, "   ```"),
        ("- * ~~~yaml", 4, "    ~~~~"),
    ],
)
def test_fences_are_read_as_they_are_written(page: Path, opening: str, indent: int, closing: str) -> None:
    # What closes no fence: one of other signs, a shorter one, one that stands deeper, one with words.
    unclosing = ["~~~" if "`" in opening else "```", "``" if "`" in opening else "~~", "    " + closing.strip(), f"{opening} x"]
    content = ["- name: cups", "", *(f"  # {line}" for line in unclosing[:2]), "  image: |", *(f"    {x}" for x in unclosing)]
    page.write_text("\n".join([POD + opening, *(" " * indent + line if line else "" for line in content), closing, "", "Tea!"]))
    (cups,) = read(page).one_shots
    assert cups.node.plain()["image"].split("\n")[: len(unclosing)] == unclosing
    assert page.read_text().split("\n")[cups.line - 1].endswith("- name: cups")


@pytest.mark.parametrize(
    "above",
    [
        "```sh\n- name: a\n```\n",
        "<!-- of old\n```yaml\nkind: Teapot\n```\n-->\n",
        "<!-- of old -->\n",
        "````markdown\n```yaml\nkind: Teapot\n```\n````\n",
        "~~~\n```yaml\nkind: Teapot\n~~~\n",
        "a ```yaml``` fence:\n```yaml fences```\n\n",
        "> ```sh\n> tea\n> ```\n",
        "- ```sh\n  tea\n  ```\n\n",
        "```\n: is no YAML: {\n```\n",
    ],
    ids=["shell", "comment", "short-comment", "fence-in-fence", "other-fence-in-fence", "code", "quotation", "list", "no-yaml"],
)
def test_what_is_no_yaml_hides_none(page: Path, above: str) -> None:
    page.write_text(changed(PAGE, "## Before tea\n", f"{above}\n## Before tea\n"))
    assert [one.line for one in read(page).one_shots] == [line + above.count("\n") + 1 for line in (30, 35, 45)]


def test_lines_that_end_as_on_windows_are_lines(page: Path) -> None:
    page.write_bytes(PAGE.replace("\n", "\r\n").encode())
    assert [one.line for one in read(page).one_shots] == [30, 35, 45]


def test_headings_are_those_above_of_every_level(page: Path) -> None:
    shown = "```yaml\n- {name: NAME, image: i}\n```\n"
    names = ["a", "b", "c"]
    headings = ["### Deep ###\n\n# No heading? `#`\n\n", "###### Deeper\n\n#no heading\n\n    # text\n\n", "## Up again\n\n"]
    page.write_text(POD + "".join(above + shown.replace("NAME", name) for above, name in zip(headings, names, strict=True)))
    assert [one.headings for one in read(page).one_shots] == [
        ("No heading? `#`",),
        ("No heading? `#`", "Deeper"),
        ("No heading? `#`", "Up again"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("kind: Pod", "kind: Deployment", 7, "no Pod and no list of containers"),
        ("kind: Pod", "kind: [Pod]", 7, "no Pod and no list of containers"),
        ("metadata:\n", "metadata\n", 10, "is no YAML"),
        ("  name: kettle", "\tname: kettle", 10, "indented with a tab"),
        ("  name: kettle", "  name: kettle\n  name: pot", 11, "name is there twice, first in line"),
        ("spec:\n", "---\nspec:\n", 12, "is a second document"),
        ("  - image: tea/fetch:v2\n", "  - was: tea/fetch:v2\n", 35, "is no container"),
        ("    name: fetch\n", "    name: [fetch]\n", 35, "is no container"),
        ("    name: fetch\n", "    name: pour\n", 35, "a second container pour beside that of line 30 under Pour"),
        ("    - name: leaves\n      image", "    name: leaves\n    image", 45, "no Pod and no list of containers"),
        ("    - name: leaves\n      image: tea/leaves:v1\n", "", 45, "is empty"),
        ("    - name: leaves\n      image: tea/leaves:v1\n", "    []\n", 45, "no Pod and no list of containers"),
        ("    - name: leaves\n      image: tea/leaves:v1\n", "    tea!\n", 45, "no Pod and no list of containers"),
        ("    - name: leaves\n", "    - name: leaves\n  image: tea/leaves:v1\n", 46, "stands left of the fence of line 44"),
        ("    ```yaml\n", "    > ```yaml\n", 44, "does not begin the line"),
        ("    ```yaml\n", "\t```yaml\n", 44, "does not begin the line"),
        ("    ```yaml\n", "    > ~~~ {.YML}\n", 44, "does not begin the line"),
        ("    ```yaml\n", "    ```\n", 44, "what a node runs as nothing"),
        ("    ```yaml\n", "    ```text\n", 44, "what a node runs as text"),
        ("v1\n    ```\n", "v1\n", 44, "nothing closes"),
        ("v1\n    ```\n", "v1\n    ~~~\n", 44, "nothing closes"),
        ("```yaml\n# Everything hot", "````yaml\n# Everything hot", 5, "nothing closes"),
        ("The tea OS", "```yaml\nkind: Pod\n```\nThe tea OS", 10, "a second Pod beside that of line 4 under Kettle"),
    ],
)
def test_what_is_broken_on_a_page_is_named_with_its_line(page: Path, old: str, new: str, line: int, says: str) -> None:
    page.write_text(changed(PAGE, old, new))
    with pytest.raises(HarnessError, match=rf"page\.md:{line}: .*{re.escape(says)}"):
        read(page)


def test_a_second_pod_is_named_where_there_are_no_headings(page: Path) -> None:
    page.write_text("```yaml\nkind: Pod\n```\n\n```yaml\nkind: Pod\n```\n")
    with pytest.raises(HarnessError, match=r"page\.md:6: is a second Pod beside that of line 2: "):
        read(page)


def test_a_hint_in_a_page_refuses_nothing(page: Path) -> None:
    page.write_text(f"{PAGE}\nLast\n\n```yaml\n- name: last\n  image: i\n  on: x\n```\n")
    assert read(page).one_shots[-1].node.word("true") == "x"


def test_a_page_without_a_pod_is_named(page: Path) -> None:
    page.write_text(PAGE[PAGE.index("## Before") :])
    with pytest.raises(HarnessError, match=r"page\.md: shows no Pod"):
        read(page)


def test_a_page_that_cannot_be_read_is_named(page: Path, tmp_path: Path) -> None:
    page.write_bytes(b"# Th\xe9\n".replace(b"#", b"\n#"))
    with pytest.raises(HarnessError, match=r"page\.md:2: is no UTF-8"):
        read(page)
    with pytest.raises(HarnessError, match=r"gone\.md: cannot be read: No such file"):
        read(tmp_path / "gone.md")


def test_a_long_line_of_tabs_is_read_at_once(page: Path) -> None:
    page.write_text(PAGE + "\t" * 5000 + "> " * 5000 + "\n")
    assert len(read(page).one_shots) == 3
