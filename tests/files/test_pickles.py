"""Plain data come back as they were; whatever would import or call something, or grow without bound, is
refused and nothing runs."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from originals import Runs
from unveil.files.pickles import DEEPEST, ORDERED_DICT, Again, Made, Stored, Symbol, read_pickle

PLAIN = {
    "name": "hopper", "horizon": 32, "big": 2**40, "negative": -100, "long": -(2**200), "rate": 2e-4, "none": None, "yes": True,
    "no": False,     "mults": (1, 2, 4, 8), "five": tuple(range(5)), "empty": ((), [], {}), "list": [1, "b", [2.5]],
    "many": list(range(1500)),
    7: {"x": "hopper", "again": "hopper"},
}  # fmt: skip


def read(data: bytes, names: str = "diffuser"):
    return read_pickle(
        io.BytesIO(data), lambda symbol: symbol.module.split(".")[0] == names or symbol == ORDERED_DICT
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_come_back(protocol):
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN
    assert read(pickle.dumps(OrderedDict(a=1, b=(2, 3)), protocol)) == {"a": 1, "b": (2, 3)}


def test_the_next_pickle_of_a_file_can_be_read_after_it():
    file = io.BytesIO(pickle.dumps([1]) + pickle.dumps({"a": 2}, 2) + b"rest")
    assert (read_pickle(file, lambda s: False), read_pickle(file, lambda s: False), file.read()) == (
        [1],
        {"a": 2},
        b"rest",
    )


def test_names_are_recorded_and_never_imported(tmp_path):
    found = read(b"cdiffuser.models.temporal\nTemporalUnet\n.")
    assert found == Symbol("diffuser.models.temporal", "TemporalUnet")
    call = read(b"cdiffuser.anything\nos.system\nX\x05\x00\x00\x00touch\x85R.")
    assert isinstance(call, Made) and call.maker.name == "os.system" and call.arguments == ("touch",)
    built = read(b"cdiffuser.utils.config\nConfig\n)\x81}X\x01\x00\x00\x00aK\x01sb.")
    assert isinstance(built, Made) and built.state == {"a": 1}
    beside = read(b"X\x01\x00\x00\x00aQ.")
    assert isinstance(beside, Stored) and beside.identity == "a"


@pytest.mark.parametrize(
    "nest",
    [lambda x: x, lambda x: [x], lambda x: {"a": [x]}, lambda x: ((x,), 1), lambda x: OrderedDict(a=x)],
)
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_call_of_the_system_is_refused_at_any_depth_and_runs_nothing(tmp_path, nest, protocol):
    marker = tmp_path / "ran"
    data = pickle.dumps(nest(Runs(marker)), protocol)
    with pytest.raises(ValueError, match=r"system|operation"):
        read(data)
    assert not marker.exists()
    pickle.loads(data)  # the payload is live
    assert marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(eval),
        pickle.dumps(np.float64(3.0)),
        pickle.dumps(np.zeros(3)),
        pickle.dumps(Symbol("a", "b")),
        pickle.dumps(bytearray(b"x")),
        pickle.dumps({1, 2}),
        pickle.dumps(b"x"),
        pickle.dumps({(1, 2): 3}),
        pickle.dumps({1.5: 3}),
        b"(cposix\nsystem\nX\x04\x00\x00\x00trueo.",
        b"(S'true'\niposix\nsystem\n.",
        b"Ptoken\n.",
        b"\x82\x01.",
        b"cdiffuser\nA\n)}\x92.",
        b"ccollections\nOrderedDict\n](K\x01K\x02ea\x85R.",
        b"cbuiltins\ngetattr\n(cdiffuser\nA\nX\x01\x00\x00\x00atR.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
        b"\x80\x04K\x01K\x02\x93.",
        b"K\x01)R.",
        b"cdiffuser\nA\n]R.",
        b"K\x01}b.",
        b"K\x01K\x02a.",
        b"K\x01K\x02K\x03s.",
    ],
)  # fmt: skip
def test_what_plain_data_do_not_need_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        read(data)


def test_what_refers_to_itself_or_stands_in_two_places_is_refused():
    circle: list = []
    circle.append(circle)
    shared = [1, 2]
    for value in (circle, [shared, shared], {"a": shared, "b": {"c": shared}}):
        with pytest.raises(ValueError, match="two places"):
            read(pickle.dumps(value))
    bomb: tuple = (0,)
    for _ in range(100):
        bomb = (bomb, bomb)  # 2 ** 100 leaves
    for protocol in (2, 4):
        with pytest.raises(
            ValueError, match=r"two places|deep"
        ):  # at once: walking its leaves would never end
            read(pickle.dumps(bomb, protocol))
    flat = (1, 2)
    assert read(pickle.dumps([flat, flat])) == [flat, flat]


@pytest.mark.parametrize(
    "data",
    [
        b"]" * 50_000 + b"a" * 49_999 + b".",
        b"N" + b"\x85" * 50_000 + b".",
        b"}" + b"X\x01\x00\x00\x00a}" * 30_000 + b"s" * 30_000 + b".",
        b"(" * 50_000 + b"t" * 50_000 + b".",
    ],
)
def test_deep_nesting_is_refused(data):
    with pytest.raises(ValueError, match=f"more than {DEEPEST} deep"):
        read(data)


def test_size_is_bounded():
    with pytest.raises(ValueError, match="operations"):
        read(b"(" + b"N" * 100_000 + b"t.")
    with pytest.raises(ValueError, match="70,000 characters"):
        read(pickle.dumps("x" * 70_000))
    with pytest.raises(ValueError, match=r"."):
        read(b"\x8d" + (2**62).to_bytes(8, "little") + b"abc.")
    with pytest.raises(ValueError, match=r"."):
        read(b"L" + b"9" * 100_000 + b"L\n.")


def test_damaged_ones_are_refused_wherever_they_end():
    data = pickle.dumps({name: value for name, value in PLAIN.items() if name != "many"}, 4)
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"."):
            read(data[:end])
    for wrong in (
        b"",
        b".",
        b"0.",
        b"NN.",
        b"(N.",
        b"t.",
        b"a.",
        b"h\x05.",
        b"\xff\xff",
        b"\x80\x04\x95\xff",
        b"X\x02\x00\x00\x00\xff\xfe.",
    ):
        with pytest.raises(ValueError, match=r"."):
            read(wrong)


def test_an_object_that_its_part_refers_to_stands_there_as_again():
    """child.parent = parent, parent.child = child: read as a tree, and refused unless it is said that such
    objects repeat."""
    body = b"\x80\x02ca\nP\n)\x81q\x00}X\x05\x00\x00\x00childca\nC\n)\x81}X\x06\x00\x00\x00parenth\x00sbsb."
    parent = read_pickle(io.BytesIO(body), lambda _: True, repeats=lambda symbol: symbol.name == "P")
    assert parent.state["child"].state["parent"] == Again(Symbol("a", "P"))
    with pytest.raises(ValueError, match="occurs in two places"):
        read_pickle(io.BytesIO(body), lambda _: True, repeats=lambda symbol: symbol.name == "C")


def test_a_reader_may_set_bounds():
    with pytest.raises(ValueError, match="more than 3 operations"):
        read_pickle(io.BytesIO(pickle.dumps([1, 2], 2)), lambda _: True, operations=3)
    deep = pickle.dumps([[[[]]]], 2)
    assert read_pickle(io.BytesIO(deep), lambda _: True, deepest=4) == [[[[]]]]
    with pytest.raises(ValueError, match="nested more than 2 deep"):
        read_pickle(io.BytesIO(deep), lambda _: True, deepest=2)


def test_a_class_as_key_is_its_name():
    """As in the callbacks of Lightning's checkpoints."""
    data = pickle.dumps({OrderedDict: 1, "other": 2}, 2)
    assert read(data) == {"collections.OrderedDict": 1, "other": 2}
    with pytest.raises(ValueError, match="does not belong here"):
        read_pickle(io.BytesIO(data), lambda symbol: False)
