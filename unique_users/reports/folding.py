"""Lines that fit a terminal of 80 columns, however large their numbers are. Pure."""

COLUMNS = 80
_GLUE = "\N{NO-BREAK SPACE}"


def glued(words: str) -> str:
    """Words that stay together on one line."""
    return words.replace(" ", _GLUE)


def folded(start: str, text: str) -> list[str]:
    """`text` after `start`, folded into lines that all begin with `start`. Only glued words may exceed the width."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(f"{lines[-1]} {word}".removesuffix(",")) <= COLUMNS:
            lines[-1] += f" {word}"
        else:
            lines.append(start + word)
    return [line.removesuffix(",").replace(_GLUE, " ") for line in lines]
