"""Lines of code: neither blank, nor a comment, nor documentation."""

import ast
import io
import re
import tokenize
from pathlib import Path

_JAVA_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*', re.DOTALL)
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(file: Path) -> int:
    """How many a file in Python or Java has."""
    text = file.read_text(encoding="utf-8")
    return _python(text) if file.suffix == ".py" else _java(text)


def _python(text: str) -> int:
    numbers: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            numbers.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            numbers.difference_update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return len(numbers)


def _java(text: str) -> int:
    code = _JAVA_COMMENT.sub(lambda found: found[1] or "", text)
    return sum(1 for line in code.splitlines() if line.strip())
