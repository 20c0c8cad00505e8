"""Every engine that is compared can be run, was measured, and stands in the document as measured."""

import json
import re

import engines_document  # first: it knows where the others are
import pytest
from compared import OURS, compared
from registry import HERE, PEERS, Peer

FOUND = json.loads(engines_document.FOUND.read_text(encoding="utf-8"))["engines"]
TEXT = engines_document.DOCUMENT.read_text(encoding="utf-8")


def test_the_table_says_what_was_measured() -> None:
    assert engines_document.with_table(TEXT) == TEXT, "run `python tests/docs/engines_document.py`"


def test_every_engine_was_measured_and_no_other_one() -> None:
    assert list(FOUND) == [*OURS, *PEERS]
    assert [name for name, engine in FOUND.items() if not engine.get("runs")] == []
    assert [name for name, engine in compared().items() if engine.durable and "kills" not in FOUND[name]] == []


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peer_has_its_program_and_its_environment(peer: Peer) -> None:
    assert peer.code
    assert [file for file in peer.code if not (HERE / file).is_file()] == []
    if peer.program.endswith(".py"):
        assert peer.program in peer.code
        assert (HERE / f"requirements-{peer.environment}.txt").is_file()
        modules = [peer.module] if peer.module else []
    else:
        assert f"{peer.environment}/src/main/java/{peer.program.replace('.', '/')}.java" in peer.code
        modules = [peer.environment]
    for module in modules:
        assert f"<module>{module}</module>" in (HERE / "pom.xml").read_text(encoding="utf-8")
        assert (HERE / module / "pom.xml").is_file()


def test_every_maven_module_and_every_environment_belongs_to_a_peer() -> None:
    modules = set(re.findall(r"<module>(.*)</module>", (HERE / "pom.xml").read_text(encoding="utf-8")))
    assert modules == {"jvm"} | {peer.module or peer.environment for peer in PEERS.values()} & modules
    environments = {path.stem.removeprefix("requirements-") for path in HERE.glob("requirements-*.txt")}
    assert environments == {peer.environment for peer in PEERS.values() if peer.program.endswith(".py")}


@pytest.mark.parametrize("engine", ["Kafka Streams", "Flink", "Spark Structured Streaming", "Faust", "Quix", "Bytewax"])
def test_the_document_says_when_to_take_an_engine(engine: str) -> None:
    assert re.search(rf"^### {engine}", TEXT, re.MULTILINE)
