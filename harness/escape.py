"""Text from an untrusted node or file, made safe for a terminal."""


def shown(text: str) -> str:
    """Escapes what would not be shown as itself: control characters, C1's too, and changes of the direction of writing.

    Line feeds stay, so lines are shown as lines.
    """
    return "".join(each if each == "\n" or each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
