"""Settings: what the environment may say, and what is refused."""

from __future__ import annotations

import pytest

from pullback._settings import Settings, log, override, settings
from pullback.errors import PullbackError


def test_defaults():
    assert Settings.from_environment({"HOME": "/"}) == Settings()


def test_every_setting_is_read():
    environment = {
        "PULLBACK_CHECK": "2",
        "PULLBACK_TRACEBACK": "full",
        "PULLBACK_LOG": "compile, run",
        "PULLBACK_CACHE": "off",
        "PULLBACK_THREADS": "3",
        "PULLBACK_TARGET": "avx2",
        "PULLBACK_EAGER": "1",
    }
    assert Settings.from_environment(environment) == Settings(
        2, "full", frozenset({"compile", "run"}), "off", 3, "avx2", eager=True
    )


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("CHECK", "3", "is not one of 0, 1, 2"),
        ("TRACEBACK", "long", "is not one of short, full"),
        ("LOG", "compile,everything", "names other things than compile, recompile, fusion"),
        ("THREADS", "-1", "is not a number of threads, 1 to 1024"),
        ("THREADS", "many", "is not a number of threads"),
        ("THREADS", "100000", "is not a number of threads"),
    ],
)
def test_what_is_refused(name, text, reason):
    with pytest.raises(PullbackError) as caught:
        Settings.from_environment({f"PULLBACK_{name}": text})
    assert str(caught.value).startswith(f"PULLBACK_{name}={text!r} {reason}")


def test_override_ends_with_its_block():
    before = settings()
    with override(threads=7) as chosen:
        assert chosen.threads == settings().threads == 7
    assert settings() is before


def test_the_log_tells_only_what_was_asked_for(capsys):
    with override(log=frozenset({"compile"})):
        log("compile", "a line")
        log("run", "another")
    log("compile", "a third")
    assert capsys.readouterr().err == "pullback compile: a line\n"
