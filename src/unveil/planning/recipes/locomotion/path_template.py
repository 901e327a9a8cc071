"""Fill in the path templates of jannerm/diffuser, such as f:values/defaults_H{horizon}_T{n_diffusion_steps};
they are never evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from string import Formatter

from unveil.errors import UnveilError

PREFIX = "f:"
_SIMPLE = re.compile(r"(0?\d{1,2})?(\.\d{1,2})?[dfeg]?")


def resolve(template: str, fields: Mapping[str, object]) -> str:
    """The template with each {name} replaced by the field of that name. Without the prefix f: the template is
    returned unchanged.

    Attributes, indices and conversions are refused, and so are formats other than a width, digits and one of
    d, f, e, g.

    Raises:
        UnveilError: an unknown name, a field without a value, braces that contain more than a name, or a path
            that is absolute or leads upwards.
    """
    if not template.startswith(PREFIX):
        return template
    parts: list[str] = []
    try:
        pieces = list(Formatter().parse(template.removeprefix(PREFIX)))
    except ValueError as error:
        raise UnveilError(f"template {template!r}: {error}") from error
    for text, name, style, conversion in pieces:
        parts.append(text)
        if name is not None:
            parts.append(_filled(template, fields, name, style or "", conversion))
    path = "".join(parts)
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor != "" or path.startswith("~")
    if absolute or ".." in re.split(r"[/\\]", path) or not path.isprintable() or not path.strip():
        raise UnveilError(
            f"template {template!r} gives {path!r}; needed is a path below the data set's folder"
        )
    return path


def _filled(
    template: str, fields: Mapping[str, object], name: str, style: str, conversion: str | None
) -> str:
    if not name.isidentifier() or conversion or not _SIMPLE.fullmatch(style):
        raise UnveilError(f"template {template!r}: {{{name}}} must be the bare name of a field")
    if name not in fields:
        raise UnveilError(
            f"template {template!r}: no field {name!r}; there are {', '.join(sorted(map(str, fields)))}"
        )
    value = fields[name]
    if not isinstance(value, str | int | float):
        raise UnveilError(
            f"template {template!r}: field {name} is {type(value).__name__}, not a number or a word"
        )
    try:
        return format(value, style)
    except ValueError as error:
        raise UnveilError(f"template {template!r}: {{{name}:{style}}}: {error}") from error
