"""Templates are filled in, never evaluated."""

import pytest

from unveil.errors import UnveilError
from unveil.planning.recipes.locomotion.path_template import resolve

FIELDS = {
    "horizon": 32,
    "n_diffusion_steps": 20,
    "discount": 0.997,
    "prefix": "values/defaults",
    "none": None,
    "up": "../..",
    "scale": 1e-4,
}


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("f:values/defaults_H{horizon}_T{n_diffusion_steps}_d{discount}", "values/defaults_H32_T20_d0.997"),
        ("f:diffusion/defaults_H{horizon}_T{n_diffusion_steps}", "diffusion/defaults_H32_T20"),
        ("f:{prefix}_H{horizon:03d}_{discount:.2f}_{scale}", "values/defaults_H032_1.00_0.0001"),
        ("f:{{horizon}}/{horizon}", "{horizon}/32"),
        ("f:plain", "plain"),
        ("values/{horizon}", "values/{horizon}"),
        ("/absolute/without/prefix", "/absolute/without/prefix"),
    ],
)
def test_names_are_replaced(template, path):
    assert resolve(template, FIELDS) == path


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "f:{horizn}",
            "no field 'horizn'; there are discount, horizon, n_diffusion_steps, none, prefix, scale, up",
        ),
        ("f:{horizon.__class__}", "bare name"),
        ("f:{horizon.__class__.__mro__[1].__subclasses__}", "bare name"),
        ("f:{prefix[0]}", "bare name"),
        ("f:{horizon!r}", "bare name"),
        ("f:{}", "bare name"),
        ("f:{0}", "bare name"),
        ("f:{ horizon }", "bare name"),
        ("f:{__import__('os').system('true')}", "bare name"),
        ("f:{horizon:{discount}}", "bare name"),
        ("f:{horizon:999999999d}", "bare name"),
        ("f:{horizon:>10}", "bare name"),
        ("f:{prefix:d}", "{prefix:d}"),
        ("f:{horizon", "template 'f:{horizon'"),
        ("f:horizon}", "template 'f:horizon}'"),
        ("f:{none}", "field none is NoneType"),
        ("f:/etc/{horizon}", "below the data set's folder"),
        ("f:../{horizon}", "below the data set's folder"),
        ("f:values/{up}/x", "below the data set's folder"),
        ("f:values\\..\\x", "below the data set's folder"),
        ("f:C:\\x", "below the data set's folder"),
        ("f:~/x", "below the data set's folder"),
        ("f:a\0b", "below the data set's folder"),
        ("f:", "below the data set's folder"),
    ],
)
def test_hostile_templates_are_refused(template, message):
    with pytest.raises(UnveilError) as error:
        resolve(template, FIELDS)
    assert message in str(error.value)


def test_nothing_of_a_value_is_called():
    class Other:
        def __str__(self) -> str:
            raise AssertionError("called")

    with pytest.raises(UnveilError, match="field a is Other"):
        resolve("f:{a}", {"a": Other()})
