"""What `/sdapi/v1` lists: samplers, models, options, progress, memory."""

import base64
import os
from time import strftime

from unveil.image.high_resolution import UPSCALERS
from unveil.image.recipes.config import SampleImage
from unveil.image.sampler_names import SAMPLERS, SCHEDULES
from unveil.runs.flags import changed
from unveil.serve.a1111.extras import FILTERS
from unveil.serve.images import Input
from unveil.serve.models import Described
from unveil.serve.studio import Studio

Json = dict[str, object]


def _scheduler(label: str) -> Json:
    return {
        "name": label.lower().replace(" ", "_"),
        "label": label,
        "aliases": None,
        "default_rho": -1.0,
        "need_inner_model": False,
    }


FIXED: dict[str, object] = {
    "/samplers": [
        {"name": name, "aliases": [solver], "options": {}} for name, (solver, _) in SAMPLERS.items()
    ],
    "/schedulers": [_scheduler(label) for label in ("Automatic", *SCHEDULES)],
    "/upscalers": [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
        for name in ("None", *FILTERS)
    ],
    "/latent-upscale-modes": [{"name": name} for name in UPSCALERS.values() if name.startswith("Latent")],
    "/hypernetworks": [],
    "/face-restorers": [],
    "/realesrgan-models": [],
    "/sd-vae": [],
    "/prompt-styles": [],
    "/scripts": {"txt2img": [], "img2img": []},
    "/script-info": [],
    "/extensions": [],
    "/cmd-flags": {"api": True, "nowebui": False, "share": False, "listen": None, "device_id": None},
}
"""Answers that never change, by path."""


def hash_of(studio: Studio, model: Described) -> str:
    """SHA-256 of the weights; "" if they have not been loaded yet."""
    return studio.models.known_digest(model).split("+")[0]


def title_of(studio: Studio, model: Described) -> str:
    """The name of a model with the beginning of its hash, as A1111 shows it."""
    digest = hash_of(studio, model)
    return f"{model.id} [{digest[:10]}]" if digest else model.id


def sd_models(studio: Studio) -> list[Json]:
    """The image models. `filename` is the id: where a model lies is not told."""
    return [
        {
            "title": title_of(studio, one),
            "model_name": one.id,
            "hash": hash_of(studio, one)[:10] or None,
            "sha256": hash_of(studio, one) or None,
            "filename": one.id,
            "config": None,
        }
        for one in studio.models.of_kind("image")
    ]


def loras(studio: Studio) -> list[Json]:
    """The LoRA files. `path` is the id, as of models."""
    return [
        {"name": name, "alias": name, "path": name, "metadata": {}} for name in studio.models.adapters.loras
    ]


def embeddings(studio: Studio) -> Json:
    """The learned words; which of them fit a model is known when they are used."""
    found = {
        word: {
            "step": None,
            "sd_checkpoint": None,
            "sd_checkpoint_name": None,
            "shape": it.width,
            "vectors": it.vectors,
        }
        for word, it in studio.models.adapters.words.items()
    }
    return {"loaded": found, "skipped": {}}


def options(studio: Studio, model: Described) -> Json:
    """The options. Only the model can be changed."""
    return {
        "sd_model_checkpoint": title_of(studio, model),
        "sd_checkpoint_hash": hash_of(studio, model),
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
        "samples_save": False,
        "enable_pnginfo": True,
        "live_previews_enable": True,
        "show_progress_every_n_steps": 1,
    }


def progress(studio: Studio, skip_image: bool) -> Json:
    """How far the job is that runs."""
    job, count = studio.jobs.current, studio.jobs.open_jobs
    state: Json = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "",
        "job_count": count,
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    }
    answer: Json = {
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": state,
        "current_image": None,
        "textinfo": None,
    }
    if job is None:
        return answer
    state |= {
        "interrupted": job.skip.is_set(),
        "job": job.id,
        "job_timestamp": strftime("%Y%m%d%H%M%S"),
        "sampling_step": job.step,
        "sampling_steps": job.steps,
    }
    done = max(0.01, job.progress)  # 0 means that nothing runs
    elapsed = max(0.0, job.clock() - job.began)
    job.watched |= not skip_image
    preview = job.preview
    shown = base64.b64encode(preview).decode() if preview and not skip_image else None
    return answer | {
        "progress": done,
        "eta_relative": elapsed * (1 - done) / done,
        "state": state,
        "current_image": shown,
    }


async def memory() -> Json:
    """The memory of this machine, in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    return {"ram": {"free": free, "used": total - free, "total": total}, "cuda": {"error": "not reported"}}


def with_uploads(config: SampleImage, given: Input) -> SampleImage:
    """The config with the names of uploads."""
    names = tuple(f"uploaded-{digest[:12]}.png" for digest in given.digests)
    return changed(config, given=names[: len(given.pixels)])
