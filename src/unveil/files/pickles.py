"""Read pickles as data: names in a pickle are recorded, never imported, and nothing is called.

A pickle is a program for a small stack machine, with one operation that imports a name and one that calls it.
This machine replaces both by records: `Symbol` for an imported name, `Made` for the result of a call. The
result is a tree (no part occurs in it twice) of bounded size and depth, so that every later traversal is
bounded.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from typing import IO, cast

MOST_OPERATIONS = 100_000
DEEPEST = 16
LONGEST_STRING = 65_536
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Symbol:
    """A class or function that a pickle names."""

    module: str
    name: str


@dataclass(eq=False, repr=False)
class Made:
    """Stands for the result of `maker(*arguments)`, with the state that would then be set on it."""

    maker: Symbol
    arguments: tuple[object, ...]
    state: object = None


@dataclass(frozen=True, eq=False, repr=False)
class Stored:
    """A reference to data outside the pickle, such as the storage of a tensor."""

    identity: object


@dataclass(frozen=True)
class Again:
    """Stands for an object that is in the tree already, such as the parent that a child refers to."""

    maker: Symbol


ORDERED_DICT = Symbol("collections", "OrderedDict")


def nothing(symbol: Symbol) -> bool:
    """Accept no name."""
    return False


def read_pickle(
    file: BufferedReader | BytesIO,
    knows: Callable[[Symbol], bool],
    repeats: Callable[[Symbol], bool] = nothing,
    operations: int = MOST_OPERATIONS,
    deepest: int = DEEPEST,
) -> object:
    """Read the pickle at the file's position, and leave the position behind it.

    Args:
        knows: whether a name may occur.
        repeats: whether objects of this class may be referred to repeatedly; each repetition is read as
            `Again`.
        operations: largest number of operations.
        deepest: largest depth of nesting.
    Returns:
        Tuples, lists, dicts (also for `OrderedDict`), strings, numbers and None, and `Symbol`, `Made`,
        `Stored` and `Again` for everything else.
    Raises:
        ValueError: damaged, too long or too deep, an unknown name, or an operation that plain data do not
            need.
    """
    return _Machine(knows, repeats, operations, deepest).run(file)


class _BoundedReader:
    """A file with bounded reads, so that lengths which claim gigabytes are refused before any allocation."""

    def __init__(self, file: BufferedReader | BytesIO) -> None:
        self.tell, self._file = file.tell, file

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes.

        Raises:
            ValueError: more than any plain string needs.
        """
        if size > 4 * LONGEST_STRING:
            raise ValueError(f"a string of {size:,} bytes")
        return self._file.read(size)

    def readline(self) -> bytes:
        """Read a line, or the beginning of a long one."""
        return self._file.readline(4 * LONGEST_STRING)


@dataclass(eq=False)
class _Machine:
    knows: Callable[[Symbol], bool]
    repeats: Callable[[Symbol], bool]
    operations: int
    deepest: int
    stack: list[object] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[object, object] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)  # depth of each container, by its id
    alive: list[object] = field(default_factory=list)  # keeps containers alive, so that no id is reused

    def run(self, file: BufferedReader | BytesIO) -> object:
        source = cast(IO[bytes], _BoundedReader(file))  # `genops` reads only what it has
        for count, (operation, argument, _) in enumerate(pickletools.genops(source)):
            if count >= self.operations:
                raise ValueError(f"more than {self.operations:,} operations")
            name = operation.name
            match name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return self.result()
                case "MARK":
                    self.marks.append(len(self.stack))
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    self.stack.append(_CONSTANTS[name])
                case _ if name in _LITERALS:
                    if isinstance(argument, str) and len(argument) > LONGEST_STRING:
                        raise ValueError(f"a string of {len(argument):,} characters")
                    self.stack.append(argument)
                case "EMPTY_DICT":
                    self.stack.append({})
                case "EMPTY_LIST":
                    self.stack.append([])
                case "TUPLE":
                    self.wrap(self.above_mark())
                case _ if name in _TUPLES:
                    self.wrap([self.pop() for _ in range(_TUPLES[name])][::-1])
                case "APPEND":
                    self.extend([self.pop()])
                case "APPENDS":
                    self.extend(self.above_mark())
                case "SETITEM":
                    value, key = self.pop(), self.pop()
                    self.update([key, value])
                case "SETITEMS":
                    self.update(self.above_mark())
                case "MEMOIZE":
                    self.memo[len(self.memo)] = self.top()
                case "BINPUT" | "LONG_BINPUT":
                    self.memo[argument] = self.top()
                case "BINGET" | "LONG_BINGET":
                    self.stack.append(self.recalled(argument))
                case "GLOBAL":
                    self.name(*str(argument).split(" ", 1))
                case "STACK_GLOBAL":
                    symbol, module = self.pop(), self.pop()
                    self.name(module, symbol)
                case "REDUCE" | "NEWOBJ":
                    arguments, maker = self.pop(), self.pop()
                    self.make(maker, arguments)
                case "BUILD":
                    self.build(self.pop())
                case "BINPERSID":
                    self.hold(Stored(identity := self.pop()), [identity])
                case _:
                    raise ValueError(f"the operation {name}, which plain data do not need")
        raise ValueError("it has no end")

    def top(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("it takes from an empty stack")
        return self.stack[-1]

    def pop(self) -> object:
        value = self.top()
        self.stack.pop()
        return value

    def above_mark(self) -> list[object]:
        if not self.marks:
            raise ValueError("it takes from an empty stack")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def result(self) -> object:
        if len(self.stack) != 1 or self.marks:
            raise ValueError("it leaves more or less than one value")
        return self.stack[0]

    def deepen(self, container: object, parts: list[object]) -> None:
        depth = 1 + max((self.depths.get(id(part), 0) for part in parts), default=0)
        if depth > self.deepest:
            raise ValueError(f"nested more than {self.deepest} deep")
        self.alive.append(container)
        self.depths[id(container)] = max(depth, self.depths.get(id(container), 0))

    def hold(self, container: object, parts: list[object]) -> None:
        self.deepen(container, parts)
        self.stack.append(container)

    def wrap(self, parts: list[object]) -> None:
        if parts:
            self.hold(tuple(parts), parts)
        else:
            self.stack.append(())

    def extend(self, parts: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError("it appends to what is no list")
        self.deepen(target, parts)
        target.extend(parts)

    def update(self, pairs: list[object]) -> None:
        target, keys, values = self.top(), pairs[::2], pairs[1::2]
        if not isinstance(target, dict) or len(keys) != len(values):
            raise ValueError("it sets items of what is no dict")
        # a class as key, as Lightning's callbacks have it, is recorded by its name
        keys = [f"{key.module}.{key.name}" if isinstance(key, Symbol) else key for key in keys]
        if not all(isinstance(key, str | int) for key in keys):
            raise ValueError("a key that is neither a string nor an integer")
        self.deepen(target, values)
        target.update(zip(keys, values, strict=True))

    def recalled(self, index: object) -> object:
        if index not in self.memo:
            raise ValueError("it recalls what it never stored")
        value = self.memo[index]
        if isinstance(value, Made) and self.repeats(value.maker):
            return Again(value.maker)
        if isinstance(value, list | dict | Made | Stored) or self.depths.get(id(value), 0) > 1:
            raise ValueError("one container occurs in two places")
        return value

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no string")
        symbol = Symbol(module, name)
        if not self.knows(symbol):
            raise ValueError(f"it names {module[:60]}.{name[:60]}, which does not belong here")
        self.stack.append(symbol)

    def make(self, maker: object, arguments: object) -> None:
        if not isinstance(maker, Symbol) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no name")
        if maker != ORDERED_DICT:
            self.hold(Made(maker, arguments), [arguments])
        elif arguments:
            raise ValueError("an OrderedDict with arguments")
        else:
            self.stack.append({})

    def build(self, state: object) -> None:
        target = self.top()
        if isinstance(target, Made) and target.state is None:
            self.deepen(target, [state])
            target.state = state
        elif not isinstance(target, dict):  # the `_metadata` of a state dict is dropped
            raise ValueError("it sets the state of an object that has none")
