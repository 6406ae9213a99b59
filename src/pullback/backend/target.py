"""What native code is made for: a processor, its features, its vector registers.

Code is made for x86-64 with AVX2 or AVX-512 and for AArch64 with NEON. Results do not depend on
which; only the register tiles of products do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from pullback._settings import settings
from pullback.errors import CompileError


@dataclass(frozen=True, slots=True)
class Registers:
    """The vector registers of a processor: how many, and the bytes of one."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Family:
    """Processors with the same vector registers; `needs` are LLVM's names of their features."""

    name: str
    architecture: str
    cpu: str
    needs: frozenset[str]
    registers: Registers


_V3 = frozenset({"avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"})
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
FAMILIES = (  # the widest of an architecture first
    Family("avx512", "x86_64", "x86-64-v4", _V4, Registers(32, 64)),
    Family("avx2", "x86_64", "x86-64-v3", _V3, Registers(16, 32)),
    Family("neon", "aarch64", "generic", frozenset(), Registers(32, 16)),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A processor to make code for; hashable, and part of the key of cached object code."""

    name: str
    triple: str
    cpu: str
    features: str
    family: Family

    @classmethod
    def host(cls) -> Target:
        """This machine, with all it has. Raises `CompileError` where no family fits it."""
        return _host()

    @classmethod
    def named(cls, name: str) -> Target:
        """A family by its name (`avx2`) or its processor's (`x86-64-v3`), on this machine or not.

        Raises `CompileError` for a name that stands for none.
        """
        for family in FAMILIES:
            if name in (family.name, family.cpu):
                return cls(family.name, _triple(family), family.cpu, "", family)
        known = ", ".join(family.name for family in FAMILIES)
        raise CompileError(f"no target is called {name!r}", hint=f"known targets: {known}")

    @classmethod
    def chosen(cls) -> Target:
        """What `PULLBACK_TARGET` names, or this machine. Raises `CompileError` unless it runs."""
        name = settings().target
        target = cls.named(name) if name else cls.host()
        target.require_host()
        return target

    @property
    def registers(self) -> Registers:
        return self.family.registers

    @property
    def is_native(self) -> bool:
        """Whether it has this machine's architecture; LLVM assembles inline code for that alone."""
        return self.family.architecture == _architecture(llvm().get_process_triple())

    def has(self, feature: str) -> bool:
        """Whether a feature, in LLVM's name, is there: one of the family, or seen on the host."""
        return feature in self.family.needs or f"+{feature}" in self.features.split(",")

    def require_host(self) -> None:
        """Raises `CompileError`, saying what is missing, unless this machine can run the code."""
        missing = sorted(self.family.needs - _host_features())
        if not self.is_native:
            missing = [f"{self.family.architecture} processor"]
        if missing:
            raise CompileError(
                f"this machine cannot run target {self.name}: it has no {', '.join(missing)}",
                hint="unset PULLBACK_TARGET to compile for this machine",
            )


# ---- LLVM -----------------------------------------------------------------------------------


@functools.cache
def llvm() -> Any:
    """LLVM's binding, loaded and initialised at the first call.

    Threads that come first together both initialise it: that is harmless, and no lock is left
    behind for the child of a fork.
    """
    from llvmlite import binding  # noqa: PLC0415 - loading LLVM costs 80 ms

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    # Without the parser LLVM ends the process where it meets inline assembly.
    binding.initialize_native_asmparser()
    return binding


@functools.cache
def initialise_foreign() -> None:
    """Let LLVM write code for architectures that are not this machine's."""
    llvm().initialize_all_targets()
    llvm().initialize_all_asmprinters()


# ---- this machine ---------------------------------------------------------------------------


@functools.cache
def _host() -> Target:
    triple = llvm().get_process_triple()
    for family in FAMILIES:
        if family.architecture == _architecture(triple) and family.needs <= _host_features():
            cpu = llvm().get_host_cpu_name()
            features = llvm().get_host_cpu_features().flatten()
            return Target("host", triple, cpu, features, family)
    raise CompileError(
        f"no native code can be made for this machine ({triple}, {llvm().get_host_cpu_name()})",
        hint="x86-64 with AVX2 and FMA, or AArch64, is needed; functions run uncompiled anywhere",
    )


@functools.cache
def _host_features() -> frozenset[str]:
    return frozenset(name for name, here in llvm().get_host_cpu_features().items() if here)


def _architecture(triple: str) -> str:
    architecture = triple.partition("-")[0]
    return "aarch64" if architecture == "arm64" else architecture


def _triple(family: Family) -> str:
    """This machine's triple where it is of the family, else a Linux one."""
    here: str = llvm().get_process_triple()
    same = _architecture(here) == family.architecture
    return here if same else f"{family.architecture}-unknown-linux-gnu"
