"""The progress line, on a terminal and in a log file."""

from __future__ import annotations

import io

from poseaug_plugin.progress import Progress, Silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_file_gets_one_line_for_each_task() -> None:
    stream = io.StringIO()
    with Progress(10, stream) as progress:
        progress.start("loading")
        for _ in range(10):
            progress.advance()
        progress.start("testing")
    assert stream.getvalue() == "0:00  loading\n0:00  testing\n"


def test_a_terminal_gets_one_line_that_is_cleared(monkeypatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    with Progress(10, stream) as progress:
        progress.start("training 1 of 3, plain, seed 0, and a long text that does not fit")
        for _ in range(5):
            progress.advance()
    drawn = stream.getvalue().split("\r\x1b[K")
    assert drawn[0] == drawn[-1] == ""
    assert "\n" not in stream.getvalue()
    assert "training 1 of 3" in drawn[1]
    assert "left" not in drawn[1]  # not known yet
    assert "50%" in drawn[-2]
    assert "left" in drawn[-2]
    assert max(map(len, drawn)) == 59


def test_a_terminal_is_drawn_at_most_ten_times_a_second(monkeypatch) -> None:
    clock = [5.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = Terminal()
    progress = Progress(100, stream)
    progress.start("training")
    for _ in range(25):
        clock[0] += 0.01
        progress.advance()
    assert stream.getvalue().count("\r") == 1 + 2


def test_the_time_left_follows_the_work(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = Progress(100, io.StringIO())
    progress.advance(25)
    clock[0] = 30.0
    assert "25%  0:30 passed, 1:30 left" in progress.line()
    progress.advance(200)  # more than planned
    assert "100%  0:30 passed, 0:00 left" in progress.line()


def test_no_time_is_told_before_a_hundredth_is_done(monkeypatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 3.0)
    progress = Progress(1000, io.StringIO())
    progress.advance(9)
    assert "left" not in progress.line()
    progress.advance(2)
    assert "left" in progress.line()


def test_silent_shows_nothing(capsys) -> None:
    with Silent() as progress:
        progress.start("loading")
        progress.advance()
    assert capsys.readouterr() == ("", "")
