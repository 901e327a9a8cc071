"""Pickled configs of OmegaConf as plain dicts, lists, strings and numbers, without running code."""

from typing import cast

from unveil.files.pickles import Again, Made, Symbol

_CONTAINERS = {"DictConfig": dict, "ListConfig": list}
_TYPES = {Symbol("dill._dill", "_load_type"), Symbol("collections", "defaultdict")}

_PLAIN = {
    "dict",
    "list",
    "tuple",
    "set",
    "int",
    "float",
    "complex",
    "bool",
    "str",
    "bytes",
    "object",
    "type",
    "NoneType",
    "unicode",
    "long",
}


def knows(symbol: Symbol) -> bool:
    """Whether a name may occur in a pickled config: nodes of OmegaConf, and the types that they record."""
    package = symbol.module.split(".")[0]
    if package in ("builtins", "__builtin__"):
        return symbol.name in _PLAIN
    return symbol in _TYPES or (
        package in ("omegaconf", "typing") and symbol.name.isidentifier() and symbol.name[0].isupper()
    )


def repeats(symbol: Symbol) -> bool:
    """Whether objects of this class may be referred to repeatedly: nodes (by their children), and types."""
    return symbol in _TYPES or symbol.module.split(".")[0] == "omegaconf"


def plain(value: object) -> object:
    """The contents of a config, interpolations as written (`omegaconf_interpolation.resolved` replaces them).

    Raises:
        ValueError: an object that is not a node of OmegaConf.
    """
    if isinstance(value, dict):
        return {name: plain(part) for name, part in cast(dict[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in cast(list[object], value)]
    if isinstance(value, Made):
        return _node(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"a {'repeated ' if isinstance(value, Again) else ''}{type(value).__name__} in its config"
    )


def _node(made: Made) -> object:
    state = made.state
    if made.maker.module.split(".")[0] != "omegaconf" or not isinstance(state, dict):
        raise ValueError(f"{made.maker.module[:60]}.{made.maker.name[:60]} in its config")
    attributes = cast(dict[str, object], state)
    kind = _CONTAINERS.get(made.maker.name)
    if kind is None:
        return plain(attributes.get("_val"))
    content = attributes.get("_content")
    if not isinstance(content, kind | str | None):
        raise ValueError(f"a {made.maker.name} without its contents in its config")
    return plain(content)
