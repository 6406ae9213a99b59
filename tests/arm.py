"""Code for AArch64, run on any machine: the object code of a program in an emulated processor.

The emulator (Unicorn, the processors of QEMU) computes vectors and fused multiply-adds in software,
to the bit, so it shows that code for NEON gives the bits of the code this machine runs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from pullback.backend.image import ARENA, Image
from pullback.backend.jit import compile_object
from pullback.backend.program import Code
from pullback.backend.written import STATUS

unicorn = pytest.importorskip("unicorn")
arm64 = pytest.importorskip("unicorn.arm64_const")

PAGE = 1 << 16
CODE = 0x1000_0000
"""Where object code is loaded. Data are far off: nothing in the code may assume them near."""
DATA = 0x10_0000_0000
STACK = 0x20_0000_0000
STACK_BYTES = 1 << 23
END = 0x3000_0000
"""An address that nobody executes: where the program returns to."""
LIBRARY = 0x3100_0000
"""Where the functions of the C library stand that code may call; the emulator does their work."""


class Processor:
    """An AArch64 processor with an empty memory."""

    def __init__(self) -> None:
        self.machine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.machine.mem_map(STACK, STACK_BYTES)
        self.machine.mem_map(END, PAGE)
        self.machine.mem_map(LIBRARY, PAGE)
        self.machine.hook_add(
            unicorn.UC_HOOK_CODE, self._library_call, begin=LIBRARY, end=LIBRARY + PAGE
        )
        self.machine.mem_write(LIBRARY, struct.pack("<I", _RETURN) * (PAGE // 4))
        enable = self.machine.reg_read(arm64.UC_ARM64_REG_CPACR_EL1) | 3 << 20  # vectors
        self.machine.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, enable)
        self._free = DATA
        self._library: list[str] = []

    def place(self, numbers: np.ndarray) -> int:
        """The address of a copy of `numbers` in the processor's memory."""
        content = numbers.tobytes()
        size = -(-(len(content) + PAGE) // PAGE) * PAGE
        address = self._free
        self.machine.mem_map(address, size)
        self.machine.mem_write(address, content)
        self._free += size
        return address

    def read(self, address: int, like: np.ndarray) -> np.ndarray:
        content = bytes(self.machine.mem_read(address, like.nbytes))
        return np.frombuffer(content, like.dtype).reshape(like.shape)

    def load(self, code: bytes) -> dict[str, int]:
        """Load an ELF object; the addresses of its functions."""
        elf = _Elf(code)
        address = CODE
        for section in elf.sections:
            if section.is_loaded and section.size:
                section.address = address
                address += -(-section.size // 4096) * 4096
        self.machine.mem_map(CODE, -(-(address - CODE + 1) // PAGE) * PAGE)
        symbols = elf.symbols(self._library_address)
        image = {s.number: bytearray(s.content) for s in elf.sections if s.address}
        for section, offset, kind, symbol, addend in elf.relocations():
            place = elf.sections[section].address
            if place:
                _relocate(image[section], offset, kind, place + offset, symbols[symbol][1] + addend)
        for number, content in image.items():
            self.machine.mem_write(elf.sections[number].address, bytes(content))
        return dict(symbols)

    def call(self, address: int, *arguments: int) -> None:
        registers = [getattr(arm64, f"UC_ARM64_REG_X{i}") for i in range(len(arguments))]
        for register, argument in zip(registers, arguments, strict=True):
            self.machine.reg_write(register, argument)
        self.machine.reg_write(arm64.UC_ARM64_REG_SP, STACK + STACK_BYTES - 4096)
        self.machine.reg_write(arm64.UC_ARM64_REG_LR, END)
        self.machine.emu_start(address, END)

    # ---- the C library ----

    def _library_address(self, name: str) -> int:
        if name not in self._library:
            self._library.append(name)
        return LIBRARY + 4 * self._library.index(name)

    def _library_call(self, machine: object, address: int, size: int, data: object) -> None:
        del machine, size, data
        name = self._library[(address - LIBRARY) // 4]
        x0, x1, x2 = (self.machine.reg_read(getattr(arm64, f"UC_ARM64_REG_X{i}")) for i in range(3))
        if name in ("memcpy", "memmove"):
            self.machine.mem_write(x0, bytes(self.machine.mem_read(x1, x2)))
        elif name == "memset":
            self.machine.mem_write(x0, bytes([x1 & 0xFF]) * x2)
        else:
            raise AssertionError(f"one thread alone does not call {name}")


def run(code: Code, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a program for AArch64, on one emulated thread."""
    processor = Processor()
    entry = processor.load(compile_object(code.text, code.target))["program"]
    image = Image.of(code)
    arena = processor.place(np.zeros(image.arena, np.uint8))
    status = np.zeros((len(image.checks), 2), np.int64)
    status_at = processor.place(status)
    types = [code.schedule.buffers[b].type for b in code.schedule.outputs]
    given = [np.ascontiguousarray(x) for x in inputs]
    made = [np.zeros(kind.shape, kind.dtype) for kind in types]
    homes = [processor.place(x) for x in (*given, *made)]
    fixed = {ARENA: arena, STATUS: status_at}
    table = [(homes[h] if h >= 0 else fixed[h]) + offset for h, offset in image.slots]
    pointers = processor.place(np.array([*table, 0], np.uint64))
    scratch = processor.place(np.zeros(image.scratch, np.uint8))
    argument = processor.place(np.array([pointers, scratch, image.scratch], np.uint64))
    processor.call(entry, argument, 0, 1, 0)
    assert not processor.read(status_at, status).any(), "a kernel failed"
    places = [
        homes[len(given) + i] if source is None else homes[source]
        for i, source in enumerate(image.sources)
    ]
    return [processor.read(place, like) for place, like in zip(places, made, strict=True)]


def require_same(x: np.ndarray, y: np.ndarray) -> None:
    """The same type and the same bits; of a NaN only that it is one."""
    assert x.dtype == y.dtype
    assert x.shape == y.shape
    bits = f"u{x.dtype.itemsize}"
    different = (x.view(bits) != y.view(bits)) & ~((x != x) & (y != y))
    assert not different.any(), (x[different], y[different])


# ---- object files ---------------------------------------------------------------------------


@dataclass
class _Section:
    number: int
    kind: int
    is_loaded: bool
    content: bytes
    size: int
    link: int
    info: int
    address: int = 0


class _Elf:
    """The parts of a relocatable object file (Arm: ELF for the 64-bit Architecture)."""

    def __init__(self, code: bytes) -> None:
        (start,) = struct.unpack_from("<Q", code, 40)
        width, count = struct.unpack_from("<HH", code, 58)
        self.sections = []
        for i in range(count):
            _, kind, flags, _, offset, size, link, info, _, _ = struct.unpack_from(
                "<IIQQQQIIQQ", code, start + i * width
            )
            content = bytes(size) if kind == _NO_BITS else code[offset : offset + size]
            self.sections.append(_Section(i, kind, bool(flags & 2), content, size, link, info))

    def symbols(self, library) -> _Symbols:
        (table,) = (s for s in self.sections if s.kind == _SYMBOLS)
        names = self.sections[table.link].content
        found = []
        for at in range(0, table.size, 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", table.content, at)
            text = names[name : names.index(b"\0", name)].decode()
            if section == 0:
                found.append((text, library(text) if text else 0))
            else:
                inside = 0 < section < len(self.sections)
                base = self.sections[section].address if inside else 0
                found.append((text, base + value))
        return _Symbols(found)

    def relocations(self):
        for table in self.sections:
            if table.kind == _RELOCATIONS:
                for at in range(0, table.size, 24):
                    offset, info, addend = struct.unpack_from("<QQq", table.content, at)
                    yield table.info, offset, info & 0xFFFFFFFF, info >> 32, addend


class _Symbols(list):
    """(name, address), by number."""


def _relocate(code: bytearray, offset: int, kind: int, place: int, value: int) -> None:
    if kind == 257:  # ABS64
        struct.pack_into("<Q", code, offset, value & (1 << 64) - 1)
        return
    if kind in (258, 261):  # ABS32, PREL32
        struct.pack_into("<I", code, offset, (value - (place if kind == 261 else 0)) & 0xFFFFFFFF)
        return
    (word,) = struct.unpack_from("<I", code, offset)
    if kind in (282, 283):  # JUMP26, CALL26
        word |= (value - place >> 2) & 0x3FFFFFF
    elif kind == 275:  # ADR_PREL_PG_HI21
        pages = (value >> 12) - (place >> 12)
        word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind in _LOW_BITS:  # ADD_ABS_LO12_NC, LDST8 … LDST128_ABS_LO12_NC
        word |= ((value & 0xFFF) >> _LOW_BITS[kind]) << 10
    else:
        raise AssertionError(f"relocation {kind} is not known")
    struct.pack_into("<I", code, offset, word)


_NO_BITS, _SYMBOLS, _RELOCATIONS = 8, 2, 4
_LOW_BITS = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
_RETURN = 0xD65F03C0
