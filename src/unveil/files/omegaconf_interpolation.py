"""Resolve OmegaConf's interpolations in a plain config, without running code.

`${horizon}`, `${task.obs_dim}` and `${.sibling}` are resolved within text and within each other. The resolver
`${eval:'...'}`, which real-stanford/diffusion_policy registers as Python's `eval`, is evaluated as arithmetic
of numbers. What cannot be resolved, such as `${now:...}` or an unknown name, stays as written.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

DEEPEST = 16  # depth of nested interpolations, at most
LONGEST = 1000  # characters of an expression, at most
LARGEST = 10**12
_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {  # as in operator's stub
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def resolved(config: Mapping[str, object]) -> dict[str, object]:
    """Replace the interpolations of a config by their values."""

    def walk(value: object, path: tuple[str, ...]) -> object:
        if isinstance(value, dict):
            return {
                name: walk(part, (*path, str(name)))
                for name, part in cast(dict[object, object], value).items()
            }
        if isinstance(value, list):
            return [walk(part, (*path, str(i))) for i, part in enumerate(cast(list[object], value))]
        return _value(config, value, path[:-1], 0) if isinstance(value, str) else value

    return {name: walk(part, (str(name),)) for name, part in config.items()}


def arithmetic(text: str) -> int | float | bool | None:
    """Evaluate an expression of numbers, True, False and None.

    Operators: + - * / // %, comparisons, and, or, not, and `a if b else c`.

    Raises:
        ValueError: anything else in it, a division by 0, or a number beyond 10^12.
    """
    if len(text) > LONGEST:
        raise ValueError(f"an expression of {len(text):,} characters")
    try:
        return _number(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError, TypeError, OverflowError) as error:
        raise ValueError(f"{text[:60]!r} is no arithmetic") from error


def _number(node: ast.AST) -> int | float | bool | None:
    match node:
        case ast.Constant(value=bool() | int() | float() | None as value):
            result = value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            result = _OPERATORS[type(op)](_number(left), _number(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            result = _OPERATORS[type(op)](_number(operand))
        case ast.BoolOp(op=op, values=values):
            result = _number(values[0])
            for other in values[1:]:
                if bool(result) == isinstance(op, ast.Or):
                    break
                result = _number(other)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            result = _OPERATORS[type(op)](_number(left), _number(right))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            result = _number(body if _number(test) else orelse)
        case _:
            raise ValueError(f"{type(node).__name__} in an expression, which is no arithmetic of numbers")
    if result is not None and abs(result) > LARGEST:
        raise ValueError("a number beyond 10^12")
    return result


def _value(config: Mapping[str, object], text: str, parent: tuple[str, ...], depth: int) -> object:
    """A text with its interpolations replaced; unchanged if one of them cannot be resolved."""
    if depth > DEEPEST or "${" not in text:
        return text
    current = text
    for _ in range(DEEPEST):
        inner = _INNERMOST.search(current)
        if inner is None:
            return current
        try:
            value = _named(config, inner[1], parent, depth)
        except (ValueError, LookupError):
            return text
        if inner.span() == (0, len(current)):
            return value
        if isinstance(value, dict | list):
            return text
        current = f"{current[: inner.start()]}{value}{current[inner.end() :]}"
        if len(current) > LONGEST:
            return text
    return text


def _named(config: Mapping[str, object], inside: str, parent: tuple[str, ...], depth: int) -> object:
    """The value of `${inside}`.

    Args:
        parent: path of the node that holds the interpolation, for relative names.
    Raises:
        ValueError: an unknown resolver, or not arithmetic.
        LookupError: no such name.
    """
    resolver, colon, argument = inside.partition(":")
    if colon:
        if resolver.strip() != "eval":
            raise ValueError(f"{resolver[:40]} is not resolved here")
        argument = argument.strip()
        return arithmetic(
            argument[1:-1] if len(argument) > 1 and argument[0] == argument[-1] in "'\"" else argument
        )
    name = inside.strip()
    dots = len(name) - len(name.lstrip("."))
    path = (*parent[: len(parent) - dots + 1], *_split(name[dots:])) if dots else tuple(_split(name))
    value: object = config
    for part in path:
        value = (
            cast(list[object], value)[int(part)]
            if isinstance(value, list)
            else cast(dict[str, object], value)[part]
        )
    if isinstance(value, str) and "${" in value:
        value = _value(config, value, path[:-1], depth + 1)
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{name[:60]} is not resolved here")
    return value


def _split(name: str) -> list[str]:
    """Split `a.b[0]` into its parts."""
    return [part for part in re.split(r"[.\[\]]", name) if part]
