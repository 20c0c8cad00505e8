"""docs/design.md shows the rooms and their imports as they are."""

from rooms import DOCUMENT, Imports, imports_of_rooms, reachable, reduced, with_picture


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_picture(text) == text, "run `python tests/docs/rooms.py`"


def test_every_room_is_described() -> None:
    rooms = DOCUMENT.read_text(encoding="utf-8").split("## The rooms\n")[1].split("\n## ")[0]
    table = "".join(line for line in rooms.splitlines() if line.startswith("|"))
    assert [room for room in imports_of_rooms() if f"`{room}/`" not in table and f"`{room}.py`" not in table] == []


def test_no_room_imports_itself_through_others() -> None:
    imports = imports_of_rooms()
    assert [room for room in imports if room in reachable(imports, room)] == []


def test_an_arrow_is_left_out_where_others_lead_there() -> None:
    imports: Imports = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert reduced(imports) == {"a": {"b"}, "b": {"c"}, "c": set()}
