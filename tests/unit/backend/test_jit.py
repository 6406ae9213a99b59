"""From text to code: errors name the kernel and line, code is exact and freed."""

from __future__ import annotations

import ctypes
import gc
import threading

import pytest

from pullback._settings import override
from pullback.backend.jit import (
    Library,
    assembly,
    compile_module,
    compile_object,
    undefined_symbols,
)
from pullback.backend.target import Target
from pullback.errors import CompileError

ADD_ONE = """
define void @add_one(ptr %x) {
  %old = load i64, ptr %x
  %new = add i64 %old, 1
  store i64 %new, ptr %x
  ret void
}
"""
AXPY = """
define <16 x float> @axpy(<16 x float> %a, <16 x float> %x, <16 x float> %y) {
  %product = fmul <16 x float> %a, %x
  %sum = fadd <16 x float> %product, %y
  ret <16 x float> %sum
}
"""


@pytest.fixture
def host():
    return Target.host()


def test_a_function_runs(host):
    library = Library(compile_object(ADD_ONE, host), ("add_one",))
    x = ctypes.c_int64(41)
    library.function("add_one", ctypes.c_void_p)(ctypes.addressof(x))
    assert x.value == 42


def test_threads_may_compile_at_once(host):
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(compile_object(ADD_ONE, host)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == 4
    assert len(set(codes)) == 1


def test_libraries_are_freed(host):
    code = compile_object(ADD_ONE, host)

    def pages():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0])

    Library(code, ("add_one",))
    gc.collect()
    before = pages()
    for _ in range(200):
        Library(code, ("add_one",))
    assert pages() - before < 100  # two hundred kept would hold three pages each, at least


# ---- refusals -------------------------------------------------------------------------------


def test_text_that_is_no_module(host):
    wrong = ADD_ONE + AXPY.replace("fadd <16 x float> %product", "fadd <16 x float> %nothing")
    with pytest.raises(CompileError) as caught:
        compile_object(wrong, host)
    assert caught.value.kernel == "axpy"
    assert str(caught.value) == (
        "LLVM refuses kernel axpy, line 11: use of undefined value '%nothing': "
        "'%sum = fadd <16 x float> %nothing, %y'"
    )


def test_text_outside_a_kernel(host):
    with pytest.raises(CompileError) as caught:
        compile_object("what is this", host)
    assert caught.value.kernel is None
    assert str(caught.value).startswith("LLVM refuses line 1: expected top-level entity")


def test_a_module_that_breaks_the_rules(host):
    broken = """
define i64 @loop(i64 %x) {
  br label %next
next:
  %y = phi i64 [ %z, %other ], [ %x, %0 ]
  ret i64 %y
other:
  %z = add i64 %y, 1
  ret i64 %z
}
"""
    with pytest.raises(CompileError, match="LLVM refuses"):
        compile_object(broken, host)


def test_a_function_of_a_library_is_refused(host):
    remainder = """
define double @remainder(double %x, double %y) {
  %z = frem double %x, %y
  ret double %z
}
"""
    with pytest.raises(CompileError, match="would call fmod of a library"):
        compile_object(remainder, host)


def test_copying_memory_is_not_refused(host):
    copy = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define void @copy(ptr %x, ptr %y, i64 %size) {
  call void @llvm.memcpy.p0.p0.i64(ptr %x, ptr %y, i64 %size, i1 false)
  ret void
}
"""
    code = compile_object(copy, host)
    assert list(undefined_symbols(code)) in (["memcpy"], [])
    x, y = ctypes.create_string_buffer(8), ctypes.create_string_buffer(b"copied", 8)
    library = Library(code, ("copy",))
    copied = library.function("copy", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    copied(ctypes.addressof(x), ctypes.addressof(y), 8)
    assert x.raw == y.raw


def test_object_code_that_is_none(host):
    with pytest.raises(CompileError, match="object code cannot be loaded"):
        Library(b"no object", ("f",))
    with pytest.raises(CompileError, match=r"cannot be loaded.*missing"):
        Library(compile_object(ADD_ONE, host), ("missing",))


def test_inline_assembly_of_another_architecture():
    foreign = Target.named("neon" if Target.host().family.architecture == "x86_64" else "avx2")
    with pytest.raises(CompileError) as caught:
        assembly(
            'define void @stop() {\n  call void asm sideeffect "nop", ""()\n  ret void\n}', foreign
        )
    assert caught.value.kernel == "stop"


# ---- the bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["avx2", "avx512", "neon"])
def test_products_and_sums_are_not_contracted(name):
    listing = assembly(AXPY, Target.named(name))
    assert "mul" in listing
    assert "add" in listing
    assert "fma" not in listing
    assert "fmla" not in listing


@pytest.mark.parametrize(
    ("name", "register"), [("avx2", "ymm"), ("avx512", "zmm"), ("neon", "v0.4s")]
)
def test_vectors_split_into_the_registers_there_are(name, register):
    assert register in assembly(AXPY, Target.named(name))


def test_compiling_is_told(host, capsys):
    with override(log=frozenset({"compile"})):
        compile_module(ADD_ONE + AXPY, host)
    assert capsys.readouterr().err.startswith("pullback compile: 2 functions in ")
