"""The cache of object code: found again, safe against damage, other processes and other users."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pullback._settings import override
from pullback.backend import cache as room
from pullback.backend.cache import Counts, ObjectCache, key_of, load
from pullback.backend.target import Target
from pullback.errors import CompileError

SOURCE = Path(__file__).parents[3] / "src"
TEXT = """
define void @set(ptr %x) {
  store i64 42, ptr %x
  ret void
}
"""
KEY = "0123456789abcdef" * 4


@pytest.fixture
def cache(tmp_path):
    return ObjectCache(tmp_path)


def answer(library):
    x = ctypes.c_int64()
    library.function("set", ctypes.c_void_p)(ctypes.addressof(x))
    return x.value


def loaded(cache, text=TEXT):
    return answer(load(text, ("set",), Target.host(), cache))


def test_code_is_found_again(cache):
    assert loaded(cache) == loaded(cache) == 42
    assert cache.counts == Counts(hits=1, misses=1, stored=1)
    assert [path.stat().st_mode & 0o777 for path in cache.folder.iterdir()] == [0o600]


def test_the_key_is_everything_that_code_depends_on(monkeypatch):
    host = Target.host()
    keys = [key_of(TEXT, host), key_of(TEXT + "\n", host)]
    for other in ({"triple": "another"}, {"cpu": "another"}, {"features": "another"}):
        keys += [key_of(TEXT, dataclasses.replace(host, **other))]
    for constant in ("EMITTER", "LEVEL"):
        with monkeypatch.context() as patch:
            patch.setattr(room, constant, 99)
            keys.append(key_of(TEXT, host))
    assert len(set(keys)) == len(keys)
    assert keys[0] == key_of(TEXT, host)


# ---- damage ---------------------------------------------------------------------------------

DAMAGES = {
    "empty": lambda held: b"",
    "cut in the header": lambda held: held[:20],
    "cut in the code": lambda held: held[:-7],
    "longer": lambda held: held + b"\0",
    "a bit of the code": lambda held: held[:200] + bytes([held[200] ^ 4]) + held[201:],
    "a bit of the hash": lambda held: held[:30] + bytes([held[30] ^ 4]) + held[31:],
    "another version": lambda held: held.replace(b"object 1", b"object 0"),
    "noise": lambda held: os.urandom(len(held)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_again(cache, damage):
    loaded(cache)
    (path,) = cache.folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert loaded(cache) == 42
    assert cache.counts == Counts(misses=1, damaged=1, stored=2)
    assert path.read_bytes() == whole


def test_a_file_under_another_key_is_refused(cache):
    cache.put(KEY, b"code")
    other = KEY[::-1]
    (cache.folder / KEY).rename(cache.folder / other)
    assert cache.get(other) is None
    assert cache.counts.damaged == 1


def test_code_that_does_not_link_is_compiled_again(cache):
    cache.put(key_of(TEXT, Target.host()), b"whole, but no object code")
    assert loaded(cache) == 42
    assert cache.counts == Counts(hits=1, stored=2, damaged=1)


# ---- folders --------------------------------------------------------------------------------


def chosen(folder, capsys):
    """The cache for a setting, and the reason told where there is none."""
    with override(cache=str(folder), log=frozenset({"compile"})):
        made = ObjectCache.chosen()
    return made, capsys.readouterr().err


def test_a_new_folder_is_for_its_owner_alone(tmp_path, capsys):
    made, told = chosen(tmp_path / "new" / "folder", capsys)
    assert made.folder == tmp_path / "new" / "folder"
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert told == ""


def test_off(capsys):
    made, told = chosen("off", capsys)
    assert loaded(made) == 42
    assert (made.folder, told, made.counts) == (None, "", Counts())


def test_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with override(cache=""):
        assert ObjectCache.chosen().folder == tmp_path / "pullback"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
def test_a_folder_that_others_can_write_is_not_used(tmp_path, capsys, mode):
    tmp_path.chmod(mode)
    made, told = chosen(tmp_path, capsys)
    assert made.folder is None
    assert told == f"pullback compile: no object cache: {tmp_path} can be written by others\n"


def test_a_folder_of_another_user_is_not_used(tmp_path, capsys, monkeypatch):
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    made, told = chosen(tmp_path, capsys)
    assert made.folder is None
    assert "belongs to another user" in told


def test_a_path_that_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    made, told = chosen(tmp_path / "file", capsys)
    assert made.folder is None
    assert told.startswith("pullback compile: no object cache: ")
    assert loaded(made) == 42


def test_a_folder_that_cannot_be_written(cache, capsys, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(room, "_write", refuse)
    with override(log=frozenset({"compile"})):
        assert loaded(cache) == loaded(cache) == 42
    assert cache.counts == Counts(misses=2)
    assert "is not kept: [Errno 13] Permission denied" in capsys.readouterr().err


def test_a_full_disk_leaves_no_draft(cache, monkeypatch):
    def fill(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    assert loaded(cache) == 42
    assert list(cache.folder.iterdir()) == []


# ---- size -----------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = ObjectCache(tmp_path, limit=3500)
    keys = [f"{i}" * 64 for i in (1, 2, 3, 0)]
    for age, key in zip((400, 300, 200), keys, strict=False):
        cache.put(key, bytes(1000))
        os.utime(tmp_path / key, (time.time() - age,) * 2)
    assert cache.get(keys[0]) is not None  # used now, so the second is the oldest
    cache.put(keys[3], bytes(1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == [keys[3], keys[0], keys[2]]


def test_only_its_own_files_are_removed(tmp_path):
    cache = ObjectCache(tmp_path, limit=0)
    (tmp_path / "notes.txt").write_text("mine")
    old, young = tmp_path / f"{KEY}.aa.draft", tmp_path / f"{KEY}.bb.draft"
    for draft in (old, young):
        draft.write_text("")
    os.utime(old, (0, 0))
    cache.put(KEY, b"code")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "notes.txt"]


# ---- processes ------------------------------------------------------------------------------


def test_processes_share_a_folder(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from pathlib import Path
from pullback.backend.cache import ObjectCache, load
from pullback.backend.target import Target
cache = ObjectCache(Path({str(tmp_path)!r}), limit=5000)
for turn in range(60):
    text = f"define i64 @f() {{{{\\n  ret i64 {{turn % 6}}\\n}}}}\\n"
    load(text, ("f",), Target.host(), cache)
assert cache.counts.damaged == 0, cache.counts
"""
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [each.wait(timeout=60) for each in both] == [0, 0]
    assert not list(tmp_path.glob("*.draft"))


def test_a_target_that_does_not_run_here_is_not_loaded(cache):
    name = "neon" if Target.host().family.architecture == "x86_64" else "avx2"
    with pytest.raises(CompileError, match="cannot run target"):
        load(TEXT, ("set",), Target.named(name), cache)
