"""Text that an untrusted node or file brought, made safe to be shown on a terminal."""


def shown(text: str) -> str:
    """Escapes all that would not be shown as itself: control characters, C1's too, and what turns the direction of writing.

    Line feeds stay: lines are shown as lines.
    """
    return "".join(each if each == "\n" or each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
