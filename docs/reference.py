"""The reference of every public name, built from the docstrings, as pages that need no server.

python docs/reference.py site        # writes site/index.html and a page for each module
"""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = {
    "pullback": "Arrays, derivatives, programs",
    "pullback.nn": "Layers, losses, activations",
    "pullback.nn.init": "Initial weights",
    "pullback.optim": "Optimisers and schedules",
    "pullback.train": "The training step, the loop, checkpoints",
    "pullback.data": "Readers, batches, splits",
    "pullback.random": "Random numbers from keys",
    "pullback.linalg": "Linear algebra",
    "pullback.inspect": "Looking at programs, gradients and runs",
    "pullback.errors": "Every exception",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff }
nav a { margin-right: 1rem } a { color: #0a58a5; text-decoration: none }
h2 { margin: 2.5rem 0 0; font: 600 1.05rem ui-monospace, monospace; border-top: 1px solid #dde3ea;
  padding-top: 1rem; overflow-wrap: anywhere }
h3 { margin: 1.2rem 0 0 1.5rem; font: 600 .95rem ui-monospace, monospace }
h3 + div { margin-left: 1.5rem }
.signature { font-weight: 400; color: #55606e }
pre { background: #f4f6f8; padding: .7rem 1rem; overflow-x: auto; font-size: .88rem }
code { background: #f4f6f8; padding: 0 .2rem }
.index { columns: 16rem } .index a { display: block; font-family: ui-monospace, monospace }
@media (prefers-color-scheme: dark) {
  body { color: #dfe5ec; background: #14181d } a { color: #7ab8f5 }
  pre, code { background: #20262e } h2 { border-color: #323a44 } .signature { color: #9aa6b4 } }
"""


class Text(str):
    """An annotation that is shown as it was written."""

    __slots__ = ()
    __repr__ = str.__str__


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, or else what it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if not inspect.ismodule(getattr(module, name))]
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return sorted(own)


def signature_of(value: Any) -> str:
    """The signature as it was written; empty where there is none."""
    if inspect.isclass(value) and issubclass(value, BaseException):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    shown = [p.replace(annotation=_as_text(p.annotation)) for p in signature.parameters.values()]
    shown = [p for p in shown if p.name not in ("self", "cls")]
    returned = _as_text(signature.return_annotation)
    return str(signature.replace(parameters=shown, return_annotation=returned))


def _as_text(annotation: Any) -> Any:
    return Text(annotation) if isinstance(annotation, str) else annotation


def methods(value: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself defines and describes."""
    for name, member in vars(value).items():
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        is_method = inspect.isfunction(inner) or isinstance(inner, property)
        if is_method and (not name.startswith("_") or name == "__call__") and inspect.getdoc(inner):
            yield name, inner


def described_fields(value: Any) -> list[tuple[str, str, str]]:
    """(name, type, text) of the fields of a class that a text stands below."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    except (OSError, TypeError, SyntaxError):
        return []
    found = []
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            told = inspect.cleandoc(text.value.value)
            found.append((field.target.id, ast.unparse(field.annotation), told))
    return found


# ---- pages ----------------------------------------------------------------------------------


def rendered(docstring: str) -> str:
    """A docstring as HTML: paragraphs, `code`, examples and tables as they stand."""
    parts = []
    for block in re.split(r"\n\s*\n", docstring):
        text = html.escape(block)
        if re.match(r"\s*>>>|\s{2,}\S", block) or "\n    " in block or "\n├" in block:
            parts.append(f"<pre>{text}</pre>")
        else:
            told = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
            parts.append(f"<p>{told}</p>")
    return "\n".join(parts)


def entry(name: str, value: Any) -> str:
    is_described = inspect.isclass(value) or callable(value)
    text = inspect.getdoc(value) if is_described else None
    head = f'{html.escape(name)}<span class="signature">{html.escape(signature_of(value))}</span>'
    if not is_described:
        head = f'{html.escape(name)}<span class="signature"> = {html.escape(repr(value))}</span>'
    lines = [f'<h2 id="{html.escape(name)}">{head}</h2>', f"<div>{rendered(text or '')}</div>"]
    if inspect.isclass(value):
        for field, kind, told in described_fields(value):
            signature = f'<span class="signature">: {html.escape(kind)}</span>'
            lines.append(f"<h3>{field}{signature}</h3><div>{rendered(told)}</div>")
        for method, inner in methods(value):
            shown = "" if isinstance(inner, property) else html.escape(signature_of(inner))
            signature = f'<span class="signature">{shown}</span>'
            told = rendered(inspect.getdoc(inner) or "")
            lines.append(f"<h3>.{method}{signature}</h3><div>{told}</div>")
    return "\n".join(lines)


def page(title: str, body: str) -> str:
    links = " ".join(
        f'<a href="{name}.html">{name.removeprefix("pullback.")}</a>' for name in MODULES
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<nav><a href="index.html">index</a>{links}</nav><h1>{title}</h1>\n'
        f"{body}\n</body></html>\n"
    )


def build(folder: Path) -> list[Path]:
    """Write the pages; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    pages, index = [], []
    for name, about in MODULES.items():
        module = importlib.import_module(name)
        names = public_names(module)
        links = "".join(f'<a href="{name}.html#{each}">{each}</a>' for each in names)
        listed = f'<div class="index">{links}</div>'
        entries = "\n".join(entry(each, getattr(module, each)) for each in names)
        told = rendered(inspect.getdoc(module) or "")
        path = folder / f"{name}.html"
        path.write_text(page(name, f"{told}{listed}{entries}"), encoding="utf-8")
        pages.append(path)
        index.append(f'<h2><a href="{name}.html">{name}</a></h2><p>{about}.</p>{listed}')
    path = folder / "index.html"
    path.write_text(page("pullback: reference", "\n".join(index)), encoding="utf-8")
    return [path, *pages]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/reference.py FOLDER")
    print(f"{len(build(Path(sys.argv[1])))} pages; open {Path(sys.argv[1]) / 'index.html'}")
