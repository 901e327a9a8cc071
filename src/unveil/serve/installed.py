"""What has to be installed for simulators."""

from importlib.util import find_spec


def missing(*packages: str, extra: str) -> str:
    """The command that installs what is missing of some packages; "" if nothing is."""
    complete = all(find_spec(name) is not None for name in packages)
    return "" if complete else f"pip install 'unveil[{extra}]'"
