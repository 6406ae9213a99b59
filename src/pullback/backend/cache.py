"""Object code kept on disk, under the hash of everything that it depends on.

A file holds the hash of its key and code before the code, and comes into being by a rename, so a
torn, damaged or foreign file is noticed and compiled again, and processes may share a folder.
Code from a folder that somebody else can write is never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pullback._settings import log, settings
from pullback.backend.jit import LEVEL, Library, compile_module
from pullback.backend.target import Target, llvm
from pullback.errors import CompileError

EMITTER = 1  # raise it when the meaning of a module's text changes but not the text
LIMIT = 256 << 20  # bytes in a folder; the files used longest ago go first
ABANDONED = 3600.0  # seconds after which an unfinished file belongs to a process that died

_MAGIC = b"pullback object 1\n"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size


@dataclass(slots=True)
class Counts:
    """What a cache did: objects found, not found, stored; files found damaged."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    damaged: int = 0


@dataclass(slots=True)
class ObjectCache:
    """The object code in one folder; without a folder nothing is kept."""

    folder: Path | None
    limit: int = LIMIT
    counts: Counts = field(default_factory=Counts)

    @classmethod
    def chosen(cls) -> ObjectCache:
        """The one `PULLBACK_CACHE` names. Where it cannot be used, none, and the log says why."""
        name = settings().cache
        if name == "off":
            return cls(None)
        try:
            folder = Path(name).expanduser() if name else _user_folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            refusal = _refusal(folder)
        except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
            folder, refusal = Path(name), str(error)
        if refusal:
            log("compile", f"no object cache: {refusal}")
            return cls(None)
        return cls(folder)

    def get(self, key: str) -> bytes | None:
        """The code stored under `key`; None where there is none, or where it is damaged."""
        if self.folder is None:
            return None
        path = self.folder / key
        try:
            held = path.read_bytes()
        except OSError:
            self.counts.misses += 1
            return None
        code = held[_HEADER:]
        if held[:_HEADER] != _header(key, code):
            self.reject(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: the last to be thrown out
        self.counts.hits += 1
        return code

    def reject(self, key: str) -> None:
        """Count the file under `key` as damaged, and take it away."""
        self.counts.damaged += 1
        log("compile", f"object {key[:12]} is damaged and compiled again")
        if self.folder is not None:
            _remove(self.folder / key)

    def put(self, key: str, code: bytes) -> None:
        """Store `code`; where the folder cannot be written, nothing, and the log says why."""
        if self.folder is None:
            return
        draft = self.folder / f"{key}.{secrets.token_hex(8)}.draft"
        try:
            _write(draft, _header(key, code) + code)
            draft.replace(self.folder / key)
        except OSError as error:
            log("compile", f"object {key[:12]} is not kept: {error}")
            _remove(draft)
            return
        self.counts.stored += 1
        if key.startswith("0"):  # one in sixteen: to look through 10,000 files takes 100 ms
            self._prune()

    def _prune(self) -> None:
        """Keep the folder below its limit, and free of drafts that nobody will finish."""
        assert self.folder is not None
        kept = []
        for entry, status in _files(self.folder):
            if not entry.name.endswith(".draft"):
                kept.append((status.st_mtime, status.st_size, entry.path))
            elif time.time() - status.st_mtime > ABANDONED:
                _remove(Path(entry.path))
        excess = sum(size for _, size, _ in kept) - self.limit
        for _, size, path in sorted(kept):
            if excess <= 0:
                break
            _remove(Path(path))
            excess -= size


def key_of(text: str, target: Target) -> str:
    """The hash of all that the object code of a module depends on."""
    binding = llvm()
    parts = [
        str(EMITTER),
        str(LEVEL),
        ".".join(map(str, binding.llvm_version_info)),
        target.triple,
        target.cpu,
        target.features,
        text,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load(text: str, symbols: Sequence[str], target: Target, cache: ObjectCache) -> Library:
    """A module's functions, from the cache or compiled and stored there.

    Raises `CompileError` where this machine cannot run `target`, or LLVM refuses the text.
    """
    key = key_of(text, target)
    library = load_object(key, symbols, target, cache)
    if library is None:
        code = compile_module(text, target)
        library = Library(code, symbols)
        cache.put(key, code)
    return library


def load_object(
    key: str, symbols: Sequence[str], target: Target, cache: ObjectCache
) -> Library | None:
    """The functions of a module with this key, if the cache has it.

    Raises `CompileError` where this machine cannot run `target`.
    """
    target.require_host()
    begin = time.perf_counter()
    code = cache.get(key)
    if code is None:
        return None
    try:
        library = Library(code, symbols)
    except CompileError:
        cache.reject(key)
        return None
    milliseconds = 1e3 * (time.perf_counter() - begin)
    log("compile", f"object {key[:12]} from the cache in {milliseconds:.1f} ms")
    return library


# ---- files ----------------------------------------------------------------------------------


def _header(key: str, code: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + code).digest()


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process may have been faster
        path.unlink()


def _files(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """The cache's own files: those named by a hash."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(entry.name.partition(".")[0]) == hashlib.sha256().digest_size * 2:
                with contextlib.suppress(OSError):
                    yield entry, entry.stat()


def _user_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "pullback"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pullback"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "pullback" / "cache"
    return Path.home() / ".cache" / "pullback"


def _refusal(folder: Path) -> str | None:
    """Why code in a folder cannot be trusted, or None."""
    if not hasattr(os, "getuid"):
        return None  # no POSIX permissions: a user's cache folder is the user's own
    for status in (folder.lstat(), folder.stat()):  # a link itself, and where it leads
        if status.st_uid != os.getuid():
            return f"{folder} belongs to another user"
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        return f"{folder} can be written by others"
    return None
