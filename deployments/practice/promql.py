"""A small, honest part of PromQL: selectors, aggregation with by, rate and increase, comparison, arithmetic.

What lies outside is refused in Prometheus' own error shape; nothing is silently taken for something else.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAXIMUM_LENGTH = 4000
MAXIMUM_DEPTH = 30

Labels = dict[str, str]
Vector = list[tuple[Labels, float]]
Value = Vector | float
Read = Callable[[str, float], list[tuple[Any, float]]]


class QueryError(Exception):
    """The query is not one this server understands."""


_TOKEN = re.compile(
    r"""\s*(?:(?P<duration>\d+(?:ms|[smhdwy]))|(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|(?i:inf|nan)\b)
    |(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<mark>=~|!~|!=|==|>=|<=|[-+*/%^(){}\[\],=<>]))""",
    re.VERBOSE,
)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "avg": lambda values: sum(values) / len(values),
    "max": max,
    "min": min,
    "count": lambda values: float(len(values)),
}
_RANGES = ("rate", "increase")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
_WORDS = frozenset(
    {"and", "or", "unless", "on", "ignoring", "group_left", "group_right", "offset", "bool", "without", "by"}
)


def _divide(left: float, right: float) -> float:
    if right:
        return left / right
    return float("nan") if not left or left != left else float("inf") if left > 0 else float("-inf")


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divide,
}  # fmt: skip


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAXIMUM_LENGTH:
        raise QueryError("the query is too long")
    out, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(f"1:{at + 1}: parse error: unexpected character: {text[at:].strip()[0]!r}")
        kind = str(match.lastgroup)
        out.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return out


@dataclass(slots=True)
class _Selector:
    name: str
    matchers: list[tuple[str, str, str]]

    def read(self, read: Read, at: float) -> Vector:
        return [(dict(labels), value) for labels, value in read(self.name, at) if self._passes(labels)]

    def _passes(self, labels: Any) -> bool:
        for label, verb, value in self.matchers:
            found = labels.get(label, "")
            is_same = re.fullmatch(value, found) is not None if "~" in verb else found == value
            if is_same is verb.startswith("!"):
                return False
        return True


Evaluate = Callable[[Read, float], Value]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def parse(self) -> Evaluate:
        if not self._tokens:
            raise QueryError("unknown position: parse error: no expression found in input")
        found = self._comparison()
        if self._at < len(self._tokens):
            raise self._unexpected()
        return found

    def _peek(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _take(self, text: str | None = None, *, kind: str | None = None) -> str:
        if self._at >= len(self._tokens):
            raise QueryError("parse error: unexpected end of input")
        token = self._tokens[self._at]
        if (text is not None and token.text != text) or (kind is not None and token.kind != kind):
            raise self._unexpected()
        self._at += 1
        return token.text

    def _unexpected(self) -> QueryError:
        if self._at >= len(self._tokens):
            return QueryError("parse error: unexpected end of input")
        token = self._tokens[self._at]
        return QueryError(
            f"1:{token.at + 1}: parse error: unexpected {token.text!r}: not part of what the practice estate reads"
        )

    def _comparison(self) -> Evaluate:
        left = self._sum()
        while self._peek() in _COMPARE:
            verb = self._take()
            left = _compared(verb, left, self._sum())
        return left

    def _sum(self) -> Evaluate:
        left = self._product()
        while self._peek() in ("+", "-"):
            left = _calculated(self._take(), left, self._product())
        return left

    def _product(self) -> Evaluate:
        left = self._unary()
        while self._peek() in ("*", "/"):
            left = _calculated(self._take(), left, self._unary())
        return left

    def _unary(self) -> Evaluate:
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            raise QueryError("the query is nested too deeply")
        try:
            if self._peek() == "-":
                self._take()
                return _calculated("*", lambda read, at: -1.0, self._unary())
            return self._primary()
        finally:
            self._depth -= 1

    def _primary(self) -> Evaluate:
        if self._peek() == "(":
            self._take("(")
            inner = self._comparison()
            self._take(")")
            return inner
        if self._at < len(self._tokens) and self._tokens[self._at].kind == "number":
            number = float(self._take())
            return lambda read, at: number
        if self._peek() == "{":
            raise QueryError("parse error: a selector names its metric here")
        name = self._take(kind="name")
        if name in _WORDS:
            self._at -= 1
            raise self._unexpected()
        if name in _AGGREGATES and self._peek() in ("(", "by"):
            return self._aggregate(name)
        if name in _RANGES and self._peek() == "(":
            return self._range(name)
        if self._peek() == "(":
            raise QueryError(f"parse error: unknown function with name {name!r}")
        selector = self._selector(name)
        if self._peek() == "[":
            raise QueryError("parse error: a range vector stands only inside rate() or increase()")
        return lambda read, at: selector.read(read, at)

    def _selector(self, name: str) -> _Selector:
        matchers: list[tuple[str, str, str]] = []
        if self._peek() == "{":
            self._take("{")
            while self._peek() != "}":
                label, verb = self._take(kind="name"), self._take(kind="mark")
                if verb not in ("=", "!=", "=~", "!~"):
                    raise QueryError(f"parse error: unexpected {verb!r} in label matching")
                value = _unquoted(self._take(kind="string"))
                if "~" in verb:
                    _check_pattern(value)
                matchers.append((label, verb, value))
                if self._peek() != "}":
                    self._take(",")
            self._take("}")
        return _Selector(name, matchers)

    def _aggregate(self, name: str) -> Evaluate:
        kept = self._by()
        self._take("(")
        inner = self._comparison()
        self._take(")")
        kept = kept or self._by()
        return _aggregated(name, kept, inner)

    def _by(self) -> list[str]:
        if self._peek() != "by":
            return []
        self._take("by")
        self._take("(")
        names = []
        while self._peek() != ")":
            names.append(self._take(kind="name"))
            if self._peek() != ")":
                self._take(",")
        self._take(")")
        return names

    def _range(self, name: str) -> Evaluate:
        self._take("(")
        selector = self._selector(self._take(kind="name"))
        self._take("[")
        seconds = _duration(self._take(kind="duration"))
        self._take("]")
        self._take(")")
        return _ranged(selector, seconds, is_rate=name == "rate")


def _duration(text: str) -> float:
    unit = "ms" if text.endswith("ms") else text[-1]
    return float(text.removesuffix(unit)) * _SECONDS[unit]


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _check_pattern(pattern: str) -> None:
    # Python's engine backtracks where RE2 does not: nested repetition is refused, and the length bounded.
    if len(pattern) > 200 or re.search(r"[*+}]\)?[*+{]", pattern):
        raise QueryError("parse error: this pattern is beyond what the practice estate matches")
    try:
        re.compile(pattern)
    except re.error as error:
        raise QueryError(f"parse error: error parsing regexp: {error}") from error


def _aggregated(name: str, kept: list[str], inner: Evaluate) -> Evaluate:
    def evaluate(read: Read, at: float) -> Value:
        value = inner(read, at)
        if isinstance(value, float):
            raise QueryError(f"parse error: expected type instant vector in aggregation expression, got scalar: {name}")
        groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
        for labels, number in value:
            key = tuple((label, labels[label]) for label in kept if label in labels)
            groups.setdefault(key, []).append(number)
        return [(dict(key), float(_AGGREGATES[name](numbers))) for key, numbers in groups.items()]

    return evaluate


def _ranged(selector: _Selector, seconds: float, *, is_rate: bool) -> Evaluate:
    def evaluate(read: Read, at: float) -> Value:
        # Five samples across the range; those before the series began are left out.
        times = [at - seconds * step / 4 for step in range(4, -1, -1)]
        first: dict[tuple[tuple[str, str], ...], tuple[float, float]] = {}
        last: dict[tuple[tuple[str, str], ...], tuple[float, float]] = {}
        for moment in times:
            for labels, number in selector.read(read, moment):
                key = tuple(sorted(labels.items()))
                first.setdefault(key, (moment, number))
                last[key] = (moment, number)
        out: Vector = []
        for key, (moment, number) in last.items():
            start, before = first[key]
            if moment > start:
                per_second = max(0.0, number - before) / (moment - start)
                out.append((dict(key), per_second if is_rate else per_second * seconds))
        return out

    return evaluate


def _compared(verb: str, left: Evaluate, right: Evaluate) -> Evaluate:
    holds = _COMPARE[verb]

    def evaluate(read: Read, at: float) -> Value:
        one, two = left(read, at), right(read, at)
        if isinstance(one, float) and isinstance(two, float):
            raise QueryError("parse error: comparisons between scalars must use BOOL modifier")
        if isinstance(two, float):
            assert not isinstance(one, float)
            return [(labels, number) for labels, number in one if holds(number, two)]
        if isinstance(one, float):
            return [(labels, number) for labels, number in two if holds(one, number)]
        other = _by_labels(two)
        return [
            (labels, number) for labels, number in one if (key := _key(labels)) in other and holds(number, other[key])
        ]

    return evaluate


def _calculated(verb: str, left: Evaluate, right: Evaluate) -> Evaluate:
    act = _ARITHMETIC[verb]

    def evaluate(read: Read, at: float) -> Value:
        one, two = left(read, at), right(read, at)
        if isinstance(one, float):
            if isinstance(two, float):
                return act(one, two)
            return [(_nameless(labels), act(one, number)) for labels, number in two]
        if isinstance(two, float):
            return [(_nameless(labels), act(number, two)) for labels, number in one]
        other = _by_labels(two)
        pairs = ((labels, number, _key(labels)) for labels, number in one)
        return [(_nameless(labels), act(number, other[key])) for labels, number, key in pairs if key in other]

    return evaluate


def _nameless(labels: Labels) -> Labels:
    return {name: value for name, value in labels.items() if name != "__name__"}


def _key(labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_nameless(labels).items()))


def _by_labels(vector: Vector) -> dict[tuple[tuple[str, str], ...], float]:
    out: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, number in vector:
        if _key(labels) in out:
            raise QueryError("found duplicate series for the match group on the right hand-side of the operation")
        out[_key(labels)] = number
    return out


def parsed(text: str) -> Evaluate:
    """Parse a query into a function of a reader and a time. Raises `QueryError`."""
    return _Parser(text).parse()
