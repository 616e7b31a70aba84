"""What the package can say to a person, found in its source: refusals, failures, warnings, findings, skip reasons."""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import frnr_assets

PACKAGE = Path(frnr_assets.__file__).parent

# What is put in when the message is made.
GAP = "…"
# What is called to say something, beside exceptions.
_SAYING = {
    *("Failure", "refusal", "SkipReason", "_settled", "warn", "_complain"),
    *("Finding", "_concerning", "_where", "_unless"),
    *("Diagnosis", "CellFailed", "ReferenceFailed", "DownloadFailed", "_failure"),
}
_LEVELS = {"warning", "error", "critical"}
# Functions whose texts are all said: those that return findings, diagnoses or skip reasons, and these.
_RETURNS = re.compile(r"Finding|Diagnosis|Evaluated")
_SPEAKERS = {"_in_words", "_pause", "_nothing_missing", "_tool", "failed", "clips_by_key", "complaints", "last_line"}
# That of pydantic, which is taken away.
_NOT_SAID = "Value error,"
# The kind of a rejected row is one of a few words, which have a table of their own.
_KIND_FIRST = {"RowRejected"}
# What changes nothing about the words of a text.
_PASSED_ON = {"harmless", "harmless_lines", "str"}
# So few words, put into a message, are a part of it that nobody looks for.
_FEW_WORDS = 3


@dataclass(frozen=True)
class Message:
    """Something that is said somewhere.

    Attributes:
        text: with a gap for whatever is put in.
        place: file and line.
    """

    text: str
    place: str


def normal(text: str) -> str:
    """Return a message as it can be compared: gaps that touch are one, and so is white space."""
    return re.sub(rf"({GAP}|%(?:\.0f|s))+", GAP, " ".join(text.split()))


def messages(package: Path = PACKAGE) -> list[Message]:
    """Return every message of a package that has words of its own."""
    modules = {path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}
    shared = {name: text for module in modules.values() for name, text in _assigned(module.body)}
    speakers = _SAYING | _error_classes(modules.values())
    found = [
        Message(normal(text), f"{path.relative_to(package.parent)}:{line}")
        for path, module in modules.items()
        for text, line in _Said(_constants(module, shared), speakers).by(module)
    ]
    return [message for message in found if len(_words(message.text)) > 1 and message.text != _NOT_SAID]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{2,}", text)


def _error_classes(modules: Iterable[ast.Module]) -> set[str]:
    known = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}
    known.add("ArgumentTypeError")
    classes = [node for module in modules for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    while new := {node.name for node in classes if known & set(map(_name, node.bases))} - known:
        known |= new
    return known


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _constants(module: ast.Module, shared: Mapping[str, str]) -> dict[str, str]:
    """Return the texts that have a name in a module, its own and those that it imports."""
    imported = {alias.name for node in module.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {name: shared[name] for name in imported & shared.keys()} | dict(_assigned(module.body))


def _assigned(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from ((_name(target), node.value.value) for target in node.targets)


@dataclass(frozen=True)
class _Said:
    """Finds what is said.

    Attributes:
        constants: texts that have a name.
        speakers: names of what is called to say something.
        function: the function that is looked at.
    """

    constants: dict[str, str]
    speakers: set[str]
    function: ast.FunctionDef | None = None

    def by(self, node: ast.AST) -> Iterator[tuple[str, int]]:
        """Yield what is said within a node, each with its line."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                inside = {**self.constants, **dict(_assigned(child.body))}
                yield from _Said(inside, self.speakers, child).by(child)
                continue
            if isinstance(child, ast.Call):
                yield from self._by_call(child)
            if self._all_is_said and isinstance(child, ast.JoinedStr | ast.Constant | ast.BinOp | ast.Name):
                whole = [(text, child.lineno) for text in self._texts(child) if " " in text.strip()]
                yield from whole
                if whole:
                    continue
            if not self._is_docstring(child):
                yield from self.by(child)

    @property
    def _all_is_said(self) -> bool:
        if self.function is None:
            return False
        returns = ast.unparse(self.function.returns) if self.function.returns else ""
        return bool(_RETURNS.search(returns)) or self.function.name in _SPEAKERS

    def _is_docstring(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    def _by_call(self, call: ast.Call) -> Iterator[tuple[str, int]]:
        name = _name(call.func)
        if name not in self.speakers and not (isinstance(call.func, ast.Attribute) and name in _LEVELS):
            return
        given = [*call.args[name in _KIND_FIRST :], *(keyword.value for keyword in call.keywords)]
        for argument in given:
            yield from ((text, call.lineno) for text in [*self._texts(argument), *self._put_in(argument)])

    def _put_in(self, node: ast.AST) -> Iterator[str]:
        """Yield what may come into the gaps of a text, as far as it is known."""
        for gap in ast.walk(node):
            if not isinstance(gap, ast.FormattedValue) or _name(gap.value) in self.constants:
                continue
            if isinstance(gap.value, ast.Name | ast.IfExp):
                yield from (text for text in self._texts(gap.value) if len(_words(text)) > _FEW_WORDS)

    def _texts(self, node: ast.AST) -> list[str]:
        """Return what an expression may be, with a gap for what is not known; nothing when nothing is known."""
        found: list[str] = []
        match node:
            case ast.Constant(value=str(text)):
                found = [text]
            case ast.JoinedStr(values=parts):
                found = ["".join(way) for way in product(*map(self._texts, parts))]
            case ast.FormattedValue(value=value):
                found = [self.constants.get(_name(value), GAP)]
            case ast.BinOp(left=left, right=right):
                found = ["".join(way) for way in product(self._texts(left) or [GAP], self._texts(right) or [GAP])]
            case ast.IfExp(body=body, orelse=other):
                found = [*self._texts(body), *self._texts(other)]
            case ast.NamedExpr(value=value):
                found = self._texts(value)
            case ast.Name(id=name) if name in self.constants:
                found = [self.constants[name]]
            case ast.Name(id=name):
                found = [text for value in self._values(name) for text in self._texts(value)]
            case ast.Call(args=[first, *_]) if _name(node.func) in _PASSED_ON:
                found = self._texts(first)
        return found

    def _values(self, name: str) -> Iterator[ast.AST]:
        for node in ast.walk(self.function) if self.function else ():
            if isinstance(node, ast.Assign) and name in map(_name, node.targets) and _name(node.value) != name:
                yield node.value
