"""Targets: names, what they need, what this machine can run."""

from __future__ import annotations

import pytest

from pullback._settings import override
from pullback.backend import target as room
from pullback.backend.target import FAMILIES, Registers, Target
from pullback.errors import CompileError


def test_the_host_runs_its_own_code():
    host = Target.host()
    host.require_host()
    assert host.is_native
    assert Target.chosen() is host
    assert host.registers in {family.registers for family in FAMILIES}


@pytest.mark.parametrize(
    ("name", "triple", "registers"),
    [
        ("avx2", "x86_64", Registers(16, 32)),
        ("x86-64-v3", "x86_64", Registers(16, 32)),
        ("avx512", "x86_64", Registers(32, 64)),
        ("neon", "aarch64", Registers(32, 16)),
    ],
)
def test_families(name, triple, registers):
    target = Target.named(name)
    assert target.triple.startswith(triple)
    assert target.registers == registers
    assert target == Target.named(name)
    assert hash(target) == hash(Target.named(name))


def test_features():
    assert Target.named("avx2").has("fma")
    assert not Target.named("avx2").has("avx512f")
    assert Target.named("avx512").has("avx512f")


def test_a_name_that_stands_for_nothing():
    with override(target="sse9"), pytest.raises(CompileError) as caught:
        Target.chosen()
    assert str(caught.value) == (
        "no target is called 'sse9'\n    known targets: avx512, avx2, neon"
    )


def test_a_target_this_machine_cannot_run(monkeypatch):
    monkeypatch.setattr(room, "_host_features", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(Target, "is_native", True)
    with override(target="avx512"), pytest.raises(CompileError) as caught:
        Target.chosen()
    message = str(caught.value)
    assert message.startswith("this machine cannot run target avx512: it has no avx512bw, avx512cd")
    assert message.endswith("unset PULLBACK_TARGET to compile for this machine")


def test_a_target_of_another_architecture():
    native = Target.host().family.architecture
    name = "neon" if native == "x86_64" else "avx2"
    with (
        override(target=name),
        pytest.raises(CompileError, match=r"it has no [a-z0-9_]+ processor"),
    ):
        Target.chosen()


def test_a_machine_without_a_family(monkeypatch):
    monkeypatch.setattr(room, "FAMILIES", ())
    room._host.cache_clear()
    try:
        with pytest.raises(CompileError, match="no native code can be made for this machine"):
            Target.host()
    finally:
        room._host.cache_clear()
