"""`/sdapi/v1/extra-single-image`: an image enlarged by a filter."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from unveil.serve.refusal import Refused
from unveil.serve.uploads import decoded, picture

FILTERS = ("Lanczos", "Nearest")


@dataclass(frozen=True)
class Extras:
    """A request; face restoration and a second upscaler are refused."""

    image: str = ""
    resize_mode: Literal[0, 1] = 0
    upscaling_resize: Annotated[float, Field(gt=0, le=16)] = 2.0
    upscaling_resize_w: Annotated[int, Field(ge=1, le=8192)] = 512
    upscaling_resize_h: Annotated[int, Field(ge=1, le=8192)] = 512
    upscaling_crop: bool = True
    upscaler_1: str = "None"
    upscaler_2: str = "None"
    extras_upscaler_2_visibility: float = 0.0
    gfpgan_visibility: float = 0.0
    codeformer_visibility: float = 0.0


def enlarged(asked: Extras, megapixels: float) -> bytes:
    """The PNG of the enlarged image.

    `resize_mode` 0: by a factor; 1: to a size, with `upscaling_crop` without distortion. The upscaler "None"
    leaves the image as it is.

    Raises:
        Refused: what this server does not do, or a result that is too large.
    """
    import io

    from PIL.Image import Resampling

    from unveil.serve.a1111.pictures import resized

    if asked.gfpgan_visibility or asked.codeformer_visibility:
        raise Refused(400, "face restoration is not supported by this server; leave it out")
    if asked.upscaler_2 != "None" and asked.extras_upscaler_2_visibility:
        raise Refused(400, "a second upscaler is not supported by this server; leave it out")
    if asked.upscaler_1 not in ("None", *FILTERS):
        raise Refused(400, f"`upscaler_1`: there are None, {', '.join(FILTERS)}")
    image = picture(decoded(asked.image), megapixels).image
    factor = asked.upscaling_resize
    sides = (round(image.width * factor), round(image.height * factor))
    if asked.resize_mode == 1:
        sides = (asked.upscaling_resize_w, asked.upscaling_resize_h)
    if sides[0] * sides[1] > megapixels * 1e6:
        raise Refused(400, f"{sides[0]} x {sides[1]} pixels are more than {megapixels:g} megapixels")
    if asked.upscaler_1 != "None":
        kind = Resampling[asked.upscaler_1.upper()]
        crops = asked.resize_mode == 1 and asked.upscaling_crop
        image = resized(image, sides, 1) if crops else image.resize(sides, kind)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
