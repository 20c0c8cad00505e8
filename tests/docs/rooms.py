"""Draws the rooms of `unique_users` and what they import, from the imports: `python tests/docs/rooms.py`.

The picture stands in docs/design.md between two comments. An arrow is left out where others lead there already.
"""

from pathlib import Path

import grimp

PACKAGE = "unique_users"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "design.md"
BEGIN, END = "<!-- rooms: made by tests/docs/rooms.py -->\n", "<!-- rooms end -->\n"

Imports = dict[str, set[str]]


def imports_of_rooms() -> Imports:
    """What each room imports of the others. A module that is no room, like errors.py, is one for itself."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rooms = {module.split(".")[1] for module in graph.modules if "." in module} - {"__main__"}
    imports: Imports = {room: set() for room in rooms}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            used, user = (module.partition(".")[2].partition(".")[0] for module in (imported, importer))
            if user in rooms and used in rooms - {user}:
                imports[user].add(used)
    return imports


def reachable(imports: Imports, room: str) -> set[str]:
    """What a room imports, and what that imports, and so on."""
    found: set[str] = set()
    left = set(imports[room])
    while left:
        used = left.pop()
        found.add(used)
        left |= imports[used] - found
    return found


def reduced(imports: Imports) -> Imports:
    """The same without the imports of rooms that are reached through another one. There is no circle."""
    return {
        room: {used for used in direct if not any(used in reachable(imports, other) for other in direct - {used})}
        for room, direct in imports.items()
    }


def picture() -> str:
    """The picture as a Mermaid block."""
    imports = reduced(imports_of_rooms())
    lines = [f"    {room} --> {used}" for room in sorted(imports) for used in sorted(imports[room])]
    alone = sorted(set(imports) - {room for room in imports if imports[room]} - set().union(*imports.values()))
    return "\n".join(["```mermaid", "flowchart TD", *lines, *(f"    {room}" for room in alone), "```", ""])


def with_picture(text: str) -> str:
    """The document with the picture of today."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{DOCUMENT} lacks the comments around the picture"
    return before + BEGIN + picture() + END + after


def main() -> None:
    """Draw it again."""
    DOCUMENT.write_text(with_picture(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
