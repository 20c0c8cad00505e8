import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from fakes import FakeClock
from repository import ROOT

from unique_users.errors import InputError, UniqueUsersError, UsageError
from unique_users.runtime.process import run_script
from unique_users.runtime.signals import Stop, stop_on_signals


def exit_code(main_result: int | BaseException) -> int | str | None:
    def main(_arguments: Sequence[str]) -> int:
        if isinstance(main_result, BaseException):
            raise main_result
        return main_result

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    return ended.value.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_former_handler_is_back_afterwards(number: int) -> None:
    former = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.wait(120)
        assert stop.requested
        assert signal.getsignal(number) is not former
    assert signal.getsignal(number) is former


def test_the_former_handlers_are_back_after_an_error_too() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), stop_on_signals():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is former


class Child:
    """A process that prints each thing that its stop request makes it see; it ends at the end of its stdin."""

    PROGRAM = (
        "import sys\n"
        "from unique_users.{module} import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    for line in sys.stdin: print(stop._requested, flush=True)\n"
        "print('ended', flush=True)\n"
    )

    def __init__(self, module: str = "runtime.signals", *, ignoring: Sequence[int] = ()) -> None:
        ignore = f"import signal; [signal.signal(n, signal.SIG_IGN) for n in {[int(n) for n in ignoring]}]\n"
        # What is ignored when a program is started stays so across the start of another one.
        start = f"{ignore}import os, sys\nos.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, self.PROGRAM.format(module=module)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def requested(self) -> bool:
        """Whether a stop was requested; all signals sent before have been handled then."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == "True\n"

    def end(self) -> tuple[int, str]:
        """The exit code and what was written to stderr."""
        _, said = self.process.communicate()
        return self.process.returncode, said


STOPS = [signal.SIGINT, signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])]


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no signals there but those of a console")
@pytest.mark.parametrize("module", ["runtime.signals", "demo.stop"])
@pytest.mark.parametrize("ignored", STOPS)
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(module: str, ignored: int) -> None:
    child = Child(module, ignoring=[ignored])
    child.process.send_signal(ignored)
    assert not child.requested()
    (heeded,) = {signal.SIGTERM, signal.SIGINT} - {ignored} if ignored != signal.SIGHUP else {signal.SIGTERM}
    child.process.send_signal(heeded)
    assert child.requested()
    assert child.end()[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no signals there but those of a console")
def test_the_signals_of_a_closed_terminal_are_one_request() -> None:
    child = Child()
    for number in (signal.SIGHUP, signal.SIGCONT, signal.SIGTERM, signal.SIGINT):
        child.process.send_signal(number)
    assert child.requested()
    assert child.end() == (0, "")


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes of forced ends, which end nothing here."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr("unique_users.runtime.signals.FORCED", b"")
    return codes


def test_a_signal_later_than_a_second_after_the_first_ends_by_force(forced: list[int]) -> None:
    clock = FakeClock()
    with stop_on_signals(clock.monotonic) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        clock.advance(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(120)
        assert not forced
        clock.advance(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(120)
        assert forced == [1]


def test_a_stop_that_was_requested_otherwise_makes_no_signal_a_second_one(forced: list[int]) -> None:
    with stop_on_signals(FakeClock().monotonic) as stop:
        stop.request()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(120)
    assert not forced


def test_a_late_second_signal_ends_the_process_with_exit_code_1() -> None:
    program = (
        "import time\n"
        "from unique_users.runtime import signals\n"
        "signals.TOGETHER_SECONDS = 0\n"
        "with signals.stop_on_signals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    stop.wait(600)\n"
        "    print('asked', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"asked\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 1
            assert b"stopped by force" in process.stderr.read()
        finally:
            process.kill()


def test_waiting_ends_when_a_stop_is_requested() -> None:
    stop = Stop()
    assert stop.wait(0) is False
    timer = threading.Timer(0.05, stop.request)
    timer.start()
    assert stop.wait(600) is True, "long before the test's own time is over"
    timer.join()


@pytest.mark.parametrize("code", [0, 1])
def test_a_script_ends_with_the_code_of_its_main(code: int) -> None:
    assert exit_code(code) == code


def test_main_gets_the_arguments_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []
    monkeypatch.setattr(sys, "argv", ["script.py", "--a", "b"])

    def main(arguments: Sequence[str]) -> int:
        seen.append(arguments)
        return 0

    with pytest.raises(SystemExit):
        run_script(main)
    assert seen == [["--a", "b"]]


@pytest.mark.parametrize(
    ("error", "code"), [(UniqueUsersError("why"), 1), (InputError("why"), 1), (UsageError("why"), 2)]
)
def test_an_error_of_ours_is_one_line_on_stderr_and_its_exit_code(
    error: UniqueUsersError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error) == code
    assert capsys.readouterr() == ("", "error: why\n")


def test_a_keyboard_interrupt_before_the_handlers_are_there_is_exit_code_1() -> None:
    assert exit_code(KeyboardInterrupt()) == 1


def test_an_error_of_the_program_itself_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(lambda _arguments: 1 // 0)


def test_a_reader_that_closes_stdout_ends_the_script_with_one_line() -> None:
    program = (
        "from unique_users.runtime.process import run_script\n"
        "def main(arguments):\n"
        "    input()\n"
        "    for _ in range(100_000): print('x' * 100)\n"
        "    return 0\n"
        "run_script(main)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == b"error: stdout was closed by its reader\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library keeps freed memory")
def test_the_tables_of_sets_that_are_gone_are_given_back() -> None:
    """Twenty tables of 4 MB are freed in the middle of the heap, as a block behind them is in use."""
    program = (
        "import psutil\n"
        "from unique_users.runtime.memory import give_memory_back\n"
        "memory = psutil.Process().memory_info\n"
        "numbers = list(range(100_000))\n"
        "set(numbers)\n"
        "tables = [set(numbers) for _ in range(20)]\n"
        "behind = set(numbers)\n"
        "del tables\n"
        "kept = memory().rss\n"
        "give_memory_back()\n"
        "print(kept - memory().rss)\n"
    )
    given_back = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True).stdout
    assert int(given_back) > 40_000_000
