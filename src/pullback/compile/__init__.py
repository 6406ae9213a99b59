"""`compile`: a Python function as native programs, one for each signature of its arguments."""

from pullback.compile.driver import CompiledFunction, compile

__all__ = ["CompiledFunction", "compile"]
