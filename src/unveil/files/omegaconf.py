"""OmegaConf's pickled configs as plain dicts, lists, strings and numbers; OmegaConf itself is not needed, and nothing of it is run."""

from typing import Any, cast

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
    """Names that occur in a pickled config: OmegaConf's nodes, and types that they note down."""
    package = symbol.module.split(".")[0]
    if package in ("builtins", "__builtin__"):
        return symbol.name in _PLAIN
    return symbol in _TYPES or (
        package in ("omegaconf", "typing") and symbol.name.isidentifier() and symbol.name[0].isupper()
    )


def repeats(symbol: Symbol) -> bool:
    """Whose objects are referred to again: nodes by their children, and types."""
    return symbol in _TYPES or symbol.module.split(".")[0] == "omegaconf"


def plain(value: Any) -> Any:
    """The contents of a config, its interpolations as they were written (`interpolation.resolved` replaces them).

    Raises:
        ValueError: an object that is no node of OmegaConf.
    """
    if isinstance(value, dict):
        return {name: plain(part) for name, part in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in cast(list[Any], value)]
    if isinstance(value, Made):
        return _node(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"a {'repeated ' if isinstance(value, Again) else ''}{type(value).__name__} in its config"
    )


def _node(made: Made) -> Any:
    state = made.state
    if made.maker.module.split(".")[0] != "omegaconf" or not isinstance(state, dict):
        raise ValueError(f"{made.maker.module[:60]}.{made.maker.name[:60]} in its config")
    held = cast(dict[str, Any], state)
    kind = _CONTAINERS.get(made.maker.name)
    if kind is None:
        return plain(held.get("_val"))
    content = held.get("_content")
    if not isinstance(content, kind | str | None):
        raise ValueError(f"a {made.maker.name} without its contents in its config")
    return plain(content)
