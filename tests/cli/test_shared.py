import logging
import os
import signal

import pytest

from autoseg.cli.main import main
from autoseg.cli.shared import LogFile, log_to, stop_on_signal
from autoseg.workspace import Workspace


def test_the_first_signal_asks_and_the_second_interrupts(capsys):
    with stop_on_signal() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert "saving" in capsys.readouterr().err


def test_signals_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_log_that_cannot_be_written_hides_nothing(tmp_path, capsys):
    handler = LogFile(tmp_path / "missing" / "autoseg.log", delay=True)
    logger = logging.getLogger("autoseg.test")
    logger.addHandler(handler)
    try:
        logger.error("a message")
    finally:
        logger.removeHandler(handler)
    assert "Logging error" not in capsys.readouterr().err


def test_the_log_is_kept_in_the_workspace(tmp_path):
    logger = logging.getLogger("autoseg")
    before = list(logger.handlers)
    log_to(Workspace(tmp_path))
    logger.error("found: something")
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)
        handler.close()
    assert "found: something" in (tmp_path / "autoseg.log").read_text()


def test_version_and_help_answer(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("autoseg ")
    assert main(["--help"]) == 0
    assert "plan" in capsys.readouterr().out


def test_a_fault_of_ours_is_exit_one_with_a_log(monkeypatch, capsys):
    def fail():
        raise RuntimeError("broken inside")

    monkeypatch.setattr("autoseg.machine.measure_machine", fail)
    assert main(["doctor"]) == 1
    message = capsys.readouterr().err
    assert "broken inside" in message
    assert ".log" in message
