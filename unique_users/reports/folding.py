"""Lines that fit a terminal of 80 columns, however large their numbers are. Pure."""

COLUMNS = 80
_GLUE = "\N{NO-BREAK SPACE}"


def glued(words: str) -> str:
    """Words that stay on one line."""
    return words.replace(" ", _GLUE)


def folded(start: str, text: str) -> list[str]:
    """`text` behind `start`, on further lines that begin alike where it does not fit. Only glued words may exceed."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(f"{lines[-1]} {word}".removesuffix(",")) <= COLUMNS:
            lines[-1] += f" {word}"
        else:
            lines.append(start + word)
    return [line.removesuffix(",").replace(_GLUE, " ") for line in lines]
