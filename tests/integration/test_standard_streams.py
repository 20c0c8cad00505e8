"""Standard streams that are full or closed, and states that may only be read: one line says what is wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT, command
from running import Running

FULL = Path("/dev/full")
FRAME = b'{"uid":"a","ts":1468244384}\n'

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="a full disk is simulated by Linux's /dev/full")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    frames = tmp_path / "frames.json"
    frames.write_bytes(FRAME)
    return frames


def shell(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command by way of a shell, which closes and redirects streams; "$@" stands for it."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *arguments], capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
    )


def test_stdout_on_a_full_disk_is_one_line_and_exit_code_1(file: Path) -> None:
    done = shell('"$@" >/dev/full', *command("recount", str(file)))
    assert done.returncode == 1
    assert "error: cannot write to stdout: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_closed_stdout_is_one_line_and_exit_code_1(file: Path) -> None:
    done = shell('"$@" >&-', *command("recount", str(file)))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: stdout is closed")


@pytest.mark.parametrize("script", ["producer", "recount"])
def test_a_closed_stdin_is_one_line(script: str) -> None:
    done = shell('"$@" <&-', *command(script, "-"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("stdin is closed: name a file, or pipe the frames in")
    assert "Traceback" not in done.stderr


def test_a_closed_stderr_does_not_put_messages_among_the_results(file: Path) -> None:
    done = shell('"$@" 2>&-', *command("recount", str(file), "--format", "json"))
    assert done.returncode == 0
    assert [line[:1] for line in done.stdout.splitlines()] == ["{"]


def test_a_full_stderr_does_not_end_the_counter(running: Running) -> None:
    line = running.arguments("counter", "--set", "counter.report_seconds=1", "--format", "json")
    begin = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    counter = subprocess.Popen([*begin, *line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    running.processes.append(counter)
    assert counter.stdout is not None
    assert "report" in counter.stdout.readline()
    counter.send_signal(signal.SIGTERM)
    counter.communicate(timeout=120)
    assert counter.returncode == 0


def test_ctrl_c_while_it_is_being_imported_says_nothing() -> None:
    slow = "import sys, time\nclass Slow:\n    def find_spec(self, name, *rest):\n"
    slow += "        if name == 'msgspec': print('importing', flush=True); time.sleep(60)\n"
    slow += "sys.meta_path.insert(0, Slow())\nfrom unique_users.commands import run\nrun('counter', 'counter.py', [])"
    process = subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (1, "")


def test_without_its_packages_it_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "counter.py")], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: counter.py needs the package 'msgspec', which is not installed: run `make")
    assert done.stderr.count("\n") == 1


def test_an_old_python_is_named_in_one_line() -> None:
    program = "import sys; sys.version_info = (3, 10, 4, 'final', 0)\nfrom unique_users.commands import run\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}run('counter', 'counter.py', [])"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (1, "error: Python 3.11 or newer is needed, this is 3.10\n")


# Root may write everything: it has to give that right up.
READ_ONLY = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.getuid() == 0 else []


def test_who_may_only_read_gets_answers_when_the_counter_is_stopped(running: Running) -> None:
    running.run("producer", "-", stdin=FRAME)
    running.counts()
    state = running.directory / "state"
    for file in state.iterdir():
        file.chmod(0o444)
    state.chmod(0o555)
    line = [*READ_ONLY, *running.arguments("query", "--last", "5 minutes")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    state.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "1 unique users" in done.stdout
