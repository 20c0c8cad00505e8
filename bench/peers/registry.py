"""Every peer: its program, what it needs, and how to launch it."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venvs"
JAVA_FLAGS = ("-Xmx640m", "-XX:+UseParallelGC")  # the collector that costs them least CPU here
# What Flink's own launch scripts open of the JDK.
JAVA_OPENS = ("java.base/java.lang", "java.base/java.util", "java.base/java.util.concurrent", "java.base/java.time")


class Peer(NamedTuple):
    """A peer: a Python script with the environment that it runs in, or a Maven module and its main class."""

    title: str
    environment: str
    program: str
    flags: tuple[str, ...] = ()
    code: tuple[str, ...] = ()  # the files whose lines are those of the job
    durable: bool = False  # goes on after a kill, with --name, --state and --counts
    publishes: bool = False  # runs so always
    module: str = ""  # of Maven, which a script needs too

    def command(self) -> list[str]:
        """How to launch it. Makes its environment unless it is there."""
        if self.module:
            _build(self.module)
        if self.program.endswith(".py"):
            return [_environment(self.environment), str(HERE / self.program), *self.flags]
        place = _build(self.environment)
        opens = [f"--add-opens={package}=ALL-UNNAMED" for package in JAVA_OPENS]
        path = f"{place / self.environment}.jar{os.pathsep}{place / 'lib'}/*"
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
        return ["java", *JAVA_FLAGS, quiet, *opens, "-cp", path, self.program, *self.flags]


_FLINK = tuple(
    f"flink/src/main/java/peers/flink/{name}.java"
    for name in ("UniqueUsers", "CountUsers", "FrameDeserializer", "CountRecord")
)
_STREAMS = tuple(f"kafka-streams/src/main/java/peers/streams/{name}.java" for name in ("UniqueUsers", "FirstSeen"))
_READER = "jvm/src/main/java/peers/FrameReader.java"

PEERS = {
    "bytewax": Peer("Bytewax", "bytewax", "bytewax_count.py", code=("bytewax_count.py",)),
    "bytewax-durable": Peer(
        "Bytewax, recovery store",
        "bytewax",
        "bytewax_count.py",
        code=("bytewax_count.py",),
        durable=True,
        publishes=True,
    ),
    "flink": Peer("Flink", "flink", "peers.flink.UniqueUsers", code=(*_FLINK, _READER)),
    "flink-durable": Peer(
        "Flink, checkpoints",
        "flink",
        "peers.flink.UniqueUsers",
        code=(*_FLINK, _READER),
        durable=True,
        publishes=True,
    ),
    "kafka-streams": Peer(
        "Kafka Streams, exactly once",
        "kafka-streams",
        "peers.streams.UniqueUsers",
        code=(*_STREAMS, _READER),
        durable=True,
        publishes=True,
    ),
    "quix-direct": Peer("Quix Streams", "quix", "quix.py", ("--shape", "direct"), ("quix.py",), durable=True),
    "quix-rekeyed": Peer(
        "Quix Streams, re-keyed", "quix", "quix.py", ("--shape", "rekeyed"), ("quix.py",), durable=True
    ),
    "spark": Peer(
        "Spark Structured Streaming",
        "spark",
        "spark_count.py",
        code=("spark_count.py",),
        durable=True,
        publishes=True,
        module="spark",
    ),
    "faust": Peer("Faust", "faust", "faust_count.py", code=("faust_count.py",)),
}


def _environment(name: str) -> str:
    """Make a virtual environment unless it is there; return its Python."""
    wanted = HERE / f"requirements-{name}.txt"
    directory = ENVIRONMENTS / name
    made_from = directory / wanted.name
    python = str(directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if made_from.exists() and made_from.read_text(encoding="utf-8") == wanted.read_text(encoding="utf-8"):
        return python
    _say(name, directory)
    venv.create(directory, clear=True, with_pip=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(wanted)],
        check=True,
        stdout=sys.stderr,
    )
    shutil.copyfile(wanted, made_from)  # last: an environment without it is not complete
    return python


def _build(module: str) -> Path:
    """Build a Maven module, and what it shares with others, unless that is done; return where it is."""
    sources = [HERE / "pom.xml", *sorted(path for part in ("jvm", module) for path in (HERE / part).rglob("*.*"))]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources if path.is_file())).hexdigest()
    place = ENVIRONMENTS / (f"{module}-kafka" if module == "spark" else module)
    made_from = place / "made-from"
    if not made_from.exists() or made_from.read_text(encoding="utf-8") != wanted:
        _say(module, place)
        maven = [
            "mvn",
            "--batch-mode",
            "--quiet",
            "-Dstyle.color=never",
            "--file",
            str(HERE / "pom.xml"),
            "--projects",
            module,
            "--also-make",
        ]
        built = subprocess.run([*maven, "package"], check=False, capture_output=True, text=True)
        if built.returncode:
            sys.exit(f"{' '.join(built.args)} ended with {built.returncode}: {built.stdout}{built.stderr}")
        made_from.write_text(wanted, encoding="utf-8")
    return place


def _say(name: str, place: Path) -> None:
    print(f"{name}: making {os.path.relpath(place)}", file=sys.stderr, flush=True)
