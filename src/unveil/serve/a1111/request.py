"""Requests of `/sdapi/v1` (A1111's web UI 1.10), and the settings that they become.

What is not done here is refused; unknown keys are ignored, as there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from unveil.image.high_resolution import UPSCALERS
from unveil.image.recipes.config import SampleImage
from unveil.image.sampler_names import solver_and_grid
from unveil.image.settings import NOISY
from unveil.serve.images import condition_of, settled
from unveil.serve.models import Described, Models
from unveil.serve.refusal import Refused

SAME = ("", "Use same sampler", "Use same scheduler", "Use same checkpoint")
KEPT = {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}  # options that cannot be changed
SEED = 2**32  # seeds are drawn below


@dataclass(frozen=True)
class Txt2Img:
    """A request of txt2img; the defaults are A1111's, but for sides, which are those of the model."""

    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] | None = None
    seed: Annotated[int, Field(ge=-1, le=2**53)] = -1
    subseed: Annotated[int, Field(ge=-1, le=2**53)] = -1
    subseed_strength: float = 0.0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    sampler_index: str | None = None
    batch_size: Annotated[int, Field(ge=1)] = 1
    n_iter: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=1)] = 50
    cfg_scale: float = 7.0
    width: Annotated[int | None, Field(ge=1)] = None
    height: Annotated[int | None, Field(ge=1)] = None
    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    denoising_strength: float | None = None
    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: Annotated[int, Field(ge=0)] = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_prompt: str = ""
    hr_negative_prompt: str = ""
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_checkpoint_name: str | None = None
    tiling: bool | None = None
    restore_faces: bool | None = None
    override_settings: dict[str, object] | None = None
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    script_name: str | None = None
    script_args: list[object] | None = None
    alwayson_scripts: dict[str, object] | None = None
    send_images: bool = True
    save_images: bool = False
    infotext: str | None = None
    force_task_id: str | None = None


@dataclass(frozen=True)
class Img2Img:
    """What a request of img2img has besides the fields of `Txt2Img`."""

    init_images: Annotated[list[str], Field(max_length=16)] = field(default_factory=list[str])
    mask: str | None = None
    mask_blur: Annotated[float, Field(ge=0, le=256)] = 4.0
    mask_blur_x: float | None = None
    mask_blur_y: float | None = None
    inpainting_fill: Literal[0, 1, 2, 3] = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: Annotated[int, Field(ge=0, le=8192)] = 0
    inpainting_mask_invert: Literal[0, 1] = 0
    resize_mode: Literal[0, 1, 2, 3] = 0
    image_cfg_scale: float | None = None
    initial_noise_multiplier: float | None = None
    include_init_images: bool = False


def check_text(asked: Txt2Img) -> None:
    """Refuse what this server does not do.

    Raises:
        Refused: such a setting.
    """
    unable: list[tuple[str, object]] = [
        ("styles", asked.styles),
        ("tiling", asked.tiling),
        ("restore_faces", asked.restore_faces),
        ("save_images", asked.save_images),
        ("infotext", asked.infotext),
        ("refiner_checkpoint", asked.refiner_checkpoint not in (None, "", "None")),
        ("s_churn", asked.s_churn),
        ("s_noise", asked.s_noise not in (None, 1.0)),
        ("seed_resize_from_h", max(0, asked.seed_resize_from_h)),
        ("seed_resize_from_w", max(0, asked.seed_resize_from_w)),
        ("hr_prompt", asked.enable_hr and asked.hr_prompt not in ("", asked.prompt)),
        (
            "hr_negative_prompt",
            asked.enable_hr and asked.hr_negative_prompt not in ("", asked.negative_prompt),
        ),
        (
            "hr_sampler_name",
            asked.enable_hr and (asked.hr_sampler_name or "") not in (*SAME, asked.sampler_name),
        ),
        ("hr_scheduler", asked.enable_hr and (asked.hr_scheduler or "") not in (*SAME, asked.scheduler)),
        ("hr_checkpoint_name", asked.enable_hr and (asked.hr_checkpoint_name or "") not in SAME),
    ]
    for name, value in unable:
        if value:
            raise Refused(400, f"`{name}` is not supported by this server; leave it out")
    if asked.script_name or asked.alwayson_scripts:
        raise Refused(422, "Script not found: this server has no scripts; leave them out")


def check_image(asked: Img2Img) -> None:
    """Refuse what this server does not do; raises as `check_text`."""
    if not asked.init_images:
        raise Refused(404, "Init image not found")
    other_blur = (asked.mask_blur_x, asked.mask_blur_y)
    unable: list[tuple[str, object]] = [
        ("resize_mode=3", asked.resize_mode == 3),
        ("inpainting_fill=3", asked.mask is not None and asked.inpainting_fill == 3),
        ("image_cfg_scale", asked.image_cfg_scale not in (None, 1.5)),
        ("initial_noise_multiplier", asked.initial_noise_multiplier not in (None, 1.0)),
        ("mask_blur_x, mask_blur_y", any(it not in (None, asked.mask_blur) for it in other_blur)),
    ]
    for name, value in unable:
        if value:
            raise Refused(400, f"`{name}` is not supported by this server; leave it out")


def checkpoint_of(asked: Txt2Img) -> str:
    """The title of the model of `override_settings`; "" if it names none.

    Raises:
        Refused: other settings.
    """
    settings = dict(asked.override_settings or {})
    title = settings.pop("sd_model_checkpoint", "")
    others = [name for name, value in settings.items() if KEPT.get(name, ...) != value]
    if others:
        raise Refused(
            400, f"`override_settings`: {others[0][:80]} is not supported by this server; leave it out"
        )
    return title if isinstance(title, str) else ""


def config_of(
    asked: Txt2Img, model: Described, models: Models, draw: Callable[[int], int], task: str = ""
) -> SampleImage:
    """The config of `unveil sample image` for a request.

    Args:
        draw: a random number below another, for seeds of -1.
        task: "img2img" or "inpaint" for images that are given.
    Raises:
        Refused, ValueError: settings that cannot be followed.
    """
    solver, grid = _sampler(asked)
    varied = asked.subseed_strength > 0
    values: dict[str, object] = {
        "n": asked.batch_size * asked.n_iter,
        "batch_size": asked.batch_size,
        "seed": draw(SEED) if asked.seed < 0 else asked.seed,
        "solver": solver,
        "grid": grid,
        "steps": asked.steps,
        "eta": asked.eta if solver in NOISY else None,  # others have none, as in A1111
        "variation": asked.subseed_strength if varied else None,
        "variation_seed": (draw(SEED) if asked.subseed < 0 else asked.subseed) if varied else None,
        "task": task,
        "strength": min(1.0, _strength(asked)) if task == "img2img" else None,
    }
    values |= condition_of(model, asked.prompt, asked.negative_prompt, asked.cfg_scale)
    width, height = asked.width or model.width, asked.height or model.height
    if (width, height) != (model.width, model.height):
        values["size"] = (width, height)
    if asked.enable_hr and not task:
        values |= _second_pass(asked, width, height)
    return settled(model, models, values)


def _sampler(asked: Txt2Img) -> tuple[str, str]:
    try:
        name = asked.sampler_name or asked.sampler_index or "Euler"
        return solver_and_grid(name, asked.scheduler or "automatic")
    except ValueError as error:
        raise Refused(404, f"Sampler not found: {error}") from error


def _strength(asked: Txt2Img) -> float:
    return 0.75 if asked.denoising_strength is None else asked.denoising_strength


def _second_pass(asked: Txt2Img, width: int, height: int) -> dict[str, object]:
    factor = asked.hr_scale
    if asked.hr_resize_x or asked.hr_resize_y:
        factors = {asked.hr_resize_x / width, asked.hr_resize_y / height} - {0.0}
        if len(factors) != 1:
            raise Refused(400, "`hr_resize_x`, `hr_resize_y`: both sides must grow by the same factor")
        factor = factors.pop()
    name = asked.hr_upscaler or "Latent"
    upscaler = next((key for key, known in UPSCALERS.items() if known == name), None)
    if upscaler is None:
        raise Refused(400, f"`hr_upscaler`: there are {', '.join(UPSCALERS.values())}")
    return {
        "hires": factor,
        "hires_steps": asked.hr_second_pass_steps or None,
        "hires_strength": min(1.0, _strength(asked)),
        "hires_upscaler": upscaler,
    }
