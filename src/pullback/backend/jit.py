"""LLVM text to object code, and object code to functions that can be called."""

from __future__ import annotations

import ctypes
import re
import struct
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pullback._settings import log
from pullback.backend.halves import halves
from pullback.backend.target import Target, initialise_foreign, llvm
from pullback.errors import CompileError

# Code is generated at level 1, without the mid-level optimiser: explicit vector code gains nothing
# from more, and compiles twice as fast (100 kernels: 1.3 s against 2.8 s at level 3).
LEVEL = 1

# What object code may take from the process it is loaded in. A mathematical function of the C
# library is not among them: its bits differ between machines.
LIBRARY_SYMBOLS = frozenset({"memcpy", "memmove", "memset", "sched_yield", "usleep"})


# ---- compiling ------------------------------------------------------------------------------


def compile_module(text: str, target: Target) -> bytes:
    """The object code of a module, in one part or two, which two cores make at the same time.

    Raises `CompileError` with the kernel and line LLVM refuses.
    """
    begin = time.perf_counter()
    parts = halves(text)
    try:
        modules = [_parse(part, target) for part in parts]
    except CompileError:
        _parse(text, target)  # refused with its own lines
        raise
    parsed = time.perf_counter()
    with ThreadPoolExecutor(1) as other:  # it starts a thread when the first task comes
        pending = [other.submit(_emit, each, target) for each in modules[1:]]
        code = joined([_emit(modules[0], target), *[each.result() for each in pending]])
    done = time.perf_counter()
    _refuse_foreign_symbols(code)
    count = max(1, text.count("\ndefine ") + text.startswith("define "))
    log(
        "compile",
        f"{count} functions in {1e3 * (done - begin):.1f} ms ({1e3 * (done - begin) / count:.2f} "
        f"each; reading the text {1e3 * (parsed - begin):.1f}), {len(code) / 1024:.0f} KB of code",
    )
    return code


def compile_object(text: str, target: Target) -> bytes:
    """The object code of a module in one part. Raises as `compile_module` does."""
    code = _emit(_parse(text, target), target)
    _refuse_foreign_symbols(code)
    return code


def _emit(module: Any, target: Target) -> bytes:
    """`emit_object`, from several threads at once.

    Each has a context and a machine of its own, so LLVM needs no lock; llvmlite holds one around
    every call. Where it has no function without, they take turns.
    """
    machine, library = _machine(target), llvm().ffi.lib
    emit = library.LLVMPY_TargetMachineEmitToMemory
    with llvm().ffi.OutputString() as refusal:
        buffer = getattr(emit, "_cfn", emit)(machine, module, 1, refusal)
        if not buffer:
            raise CompileError(f"LLVM makes no code of the module: {refusal}")
    try:
        begin, size = library.LLVMPY_GetBufferStart(buffer), library.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(begin, size)
    finally:
        library.LLVMPY_DisposeMemoryBuffer(buffer)


def assembly(text: str, target: Target) -> str:
    """The same code as assembly, to be read. Raises `CompileError`."""
    listing: str = _machine(target).emit_assembly(_parse(text, target))
    return listing


def _parse(text: str, target: Target) -> Any:
    """A verified module, in a context of its own: LLVM's global one would grow for ever."""
    if not target.is_native and " asm " in text:
        raise CompileError(
            f"inline assembly can be made for this machine alone, not for target {target.name}",
            kernel=_kernel_at(text, text.index(" asm ")),
        )
    context = llvm().create_context()
    try:
        module = llvm().parse_assembly(text, context)
        module.verify()
    except RuntimeError as refusal:
        raise _explained(str(refusal), text) from None
    module.triple = target.triple
    return module


def _machine(target: Target) -> Any:
    if not target.is_native:
        initialise_foreign()
    made = llvm().Target.from_triple(target.triple)
    return made.create_target_machine(
        cpu=target.cpu, features=target.features, opt=LEVEL, reloc="pic", codemodel="small"
    )


def _explained(refusal: str, text: str) -> CompileError:
    """LLVM's refusal with the line it is about, and the kernel that the line belongs to."""
    found = re.search(r"<string>:(\d+):\d+: error: (.*)", refusal)
    if found is None:
        return CompileError(f"LLVM refuses the module: {refusal.strip()}")
    number, reason = int(found[1]), found[2]
    lines = text.splitlines()
    line = lines[number - 1].strip() if number <= len(lines) else "end of the text"
    kernel = _kernel_at(text, sum(len(each) + 1 for each in lines[:number]) - 1)
    place = f"line {number}" if kernel is None else f"kernel {kernel}, line {number}"
    return CompileError(f"LLVM refuses {place}: {reason}: {line!r}", kernel=kernel)


def _kernel_at(text: str, position: int) -> str | None:
    """The function whose text holds a position."""
    before = re.findall(r"^define [^@\n]*@([\w.$-]+)", text[: position + 1], re.MULTILINE)
    return before[-1] if before else None


# ---- what object code asks for --------------------------------------------------------------


def _refuse_foreign_symbols(code: bytes) -> None:
    """Raises `CompileError` where LLVM put in a call to a library, as it does for `frem`."""
    parts = [set(symbols(each)) for each in split(code)]
    defined = {name for part in parts for name, here in part if here}
    taken = {name for part in parts for name, here in part if not here}
    foreign = sorted(taken - defined - LIBRARY_SYMBOLS)
    if foreign:
        raise CompileError(
            f"compiled code would call {', '.join(foreign)} of a library",
            hint="its bits would differ between machines; write the function out",
        )


def undefined_symbols(code: bytes) -> Iterator[str]:
    """The names an ELF object takes from elsewhere; none are seen in other formats."""
    return (name for name, is_defined in symbols(code) if not is_defined)


def symbols(code: bytes) -> Iterator[tuple[str, bool]]:
    """The names of an ELF object, and whether it defines them; none are seen in other formats."""
    if code[:6] != b"\x7fELF\x02\x01":  # 64 bits, little endian
        return
    (sections,) = struct.unpack_from("<Q", code, 40)
    size, count = struct.unpack_from("<HH", code, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, sections + size * i) for i in range(count)]
    for _, kind, _, _, offset, length, link, *_ in headers:
        if kind != 2:  # not a table of symbols
            continue
        names = headers[link][4]
        for at in range(offset + 24, offset + length, 24):  # the first symbol is empty
            name, section = struct.unpack_from("<I2xH", code, at)
            yield code[names + name : code.index(b"\0", names + name)].decode(), section != 0


# ---- objects in one ---------------------------------------------------------------------------

_SEVERAL = b"pullback objects"
_LENGTH = struct.Struct("<Q")


def joined(objects: Sequence[bytes]) -> bytes:
    """One object as it is, several each after its length."""
    if len(objects) == 1:
        return objects[0]
    return _SEVERAL + b"".join([_LENGTH.pack(len(each)) + each for each in objects])


def split(code: bytes) -> list[bytes]:
    """What `joined` put together."""
    if not code.startswith(_SEVERAL):
        return [code]
    objects, at = [], len(_SEVERAL)
    while at < len(code):
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(code, at)[0]
        objects.append(code[begin:at])
    return objects


# ---- loading --------------------------------------------------------------------------------


class Library:
    """Object code in memory, freed with this object: whoever calls into it holds it."""

    def __init__(self, code: bytes, symbols: Sequence[str]) -> None:
        """Raises `CompileError` when the code cannot be linked or lacks one of `symbols`."""
        # A linker of its own costs 0.3 ms and leaves nothing behind. JITLink places all sections
        # together, which code with 32-bit distances needs.
        jit = llvm().create_lljit_compiler(use_jit_link=True, suppress_errors=True)
        builder = llvm().JITLibraryBuilder()
        for each in split(code):
            builder.add_object_img(each)
        for symbol in symbols:
            builder.export_symbol(symbol)
        try:
            tracker = builder.link(jit, "library")
        except RuntimeError as refusal:
            raise CompileError(f"object code cannot be loaded: {refusal}") from None
        self.addresses: Mapping[str, int] = {symbol: tracker[symbol] for symbol in symbols}
        # At exit the code stays: a thread may still run it.
        weakref.finalize(self, _unload, tracker, jit).atexit = False

    def function(self, symbol: str, *arguments: type) -> Any:
        """A function without a result, as ctypes calls it; valid as long as this object lives."""
        return ctypes.CFUNCTYPE(None, *arguments)(self.addresses[symbol])


def _unload(tracker: Any, jit: Any) -> None:
    tracker.close()
    jit.close()
