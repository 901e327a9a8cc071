"""Flip signs and indices in the core, one at a time, in a copy; the tests named beside each must fail. Slow:
minutes.

That each line of the list still stands in the code is checked at once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LT = "tests/planning/worlds/locomotion/test_locomotion_"
CORE = "tests/process tests/sampling tests/test_equivalences.py tests/test_orders.py"
GUIDED, PRESET = (
    "tests/planning/test_guided.py",
    "tests/planning/recipes/locomotion/test_locomotion_preset.py",
)
MASKED = "tests/process/test_masking.py tests/sampling/test_masked.py"
LANGUAGE, TEXT = "tests/text/networks/test_language.py", "tests/text/test_text_model.py"
PREFIX, BLOCKS, WINDOW = (
    "tests/text/networks/test_prefix.py",
    "tests/text/test_text_blocks.py",
    "tests/text/test_text_window.py",
)
UNET, IMAGE, METRICS = (
    "tests/image/networks/test_unet2d.py",
    "tests/image/test_image_model.py",
    "tests/image/evaluation/test_image_distances.py",
)
CLASSIFIER, RESTORATION = "tests/image/test_image_classifier.py", "tests/image/test_image_restoration.py"
TRANSFORMER, DIT = "tests/image/networks/test_transformer2d.py", "tests/image/networks/test_dit.py"
STABLE_DIFFUSION = "tests/image/weights/test_stable_diffusion_names.py"
LINEAR, FOREIGN = "tests/image/networks/test_linear_unet2d.py", "tests/image/weights/test_foreign_images.py"
NOISE = "tests/sampling/test_noise.py"
FLIPS = [
    # (file, what stands there, what is put in its place, the tests that must notice)
    (
        "process/schedule.py",
        "return 2.0 * (schedule.alpha(t).log() - schedule",
        "return 2.0 * (schedule.alpha(t).log() + schedule",
        CORE,
    ),
    (
        "process/schedule.py",
        "0.5 * (self.beta_max - self.beta_min) * t**2",
        "(self.beta_max - self.beta_min) * t**2",
        CORE,
    ),
    ("process/schedule.py", "+ first * rise * t**2", "- first * rise * t**2", CORE),
    (
        "process/schedule.py",
        "(angle + first).sin() * (angle - first).sin()",
        "(angle + first).sin() * (angle + first).sin()",
        CORE,
    ),
    (
        "process/schedule.py",
        "return (-0.5 * bounded(log_snr)).sigmoid()",
        "return (0.5 * bounded(log_snr)).sigmoid()",
        CORE,
    ),
    (
        "process/schedule.py",
        "self._entries[lower + 1], position - lower",
        "self._entries[lower + 1], lower + 1 - position",
        CORE,
    ),
    ("process/schedule.py", "(upper - 1 + (wanted", "(upper + (wanted", CORE),
    (
        "process/schedule.py",
        "1.0 - alpha_bar[1:] / alpha_bar[:-1]",
        "1.0 - alpha_bar[:-1] / alpha_bar[1:]",
        "tests/process tests/test_golden.py",
    ),
    (
        "process/grid.py",
        "ratio = (high + fraction * (low - high)) ** rho",
        "ratio = (low + fraction * (high - low)) ** rho",
        CORE,
    ),
    ("process/grid.py", "start + round(k * stride) + 1", "start + round(k * stride)", CORE),
    ("process/grid.py", "schedule.time(-2.0 * ratio.log())", "schedule.time(2.0 * ratio.log())", CORE),
    (
        "process/corrupt.py",
        "+ like(schedule.sigma(t), x_0) * noise",
        "- like(schedule.sigma(t), x_0) * noise",
        CORE,
    ),
    ("process/corrupt.py", "torch.where(known, x_0, x_t)", "torch.where(known, x_t, x_0)", CORE),
    (
        "process/posterior.py",
        "torch.expm1(log_snr_t - log_snr_s)",
        "torch.expm1(log_snr_s - log_snr_t)",
        CORE,
    ),
    ("process/posterior.py", "keep = (sigma_s / sigma_t) ** 2", "keep = sigma_s / sigma_t", CORE),
    ("process/posterior.py", "alpha_s * large / sigma_t**2", "alpha_t * large / sigma_t**2", CORE),
    ("process/posterior.py", "low + fraction * (high - low)", "high + fraction * (low - high)", CORE),
    ("process/posterior.py", "(2.0 * t).clamp(max=1.0)", "(3.0 * t).clamp(max=1.0)", CORE),
    (
        "process/denoised.py",
        "self.mean + scale * (other.mean - self.mean)",
        "self.mean - scale * (other.mean - self.mean)",
        CORE,
    ),
    (
        "process/denoised.py",
        "self.logits + scale * (other.logits - self.logits)",
        "other.logits + scale * (self.logits - other.logits)",
        CORE,
    ),
    (
        "process/parameterization.py",
        "Coefficients(1.0 / alpha, -sigma / alpha",
        "Coefficients(1.0 / alpha, sigma / alpha",
        CORE,
    ),
    (
        "process/parameterization.py",
        "Coefficients(alpha / power, -sigma / power",
        "Coefficients(alpha / power, sigma / power",
        CORE,
    ),
    (
        "process/parameterization.py",
        "Coefficients(1.0 / total, -sigma / total",
        "Coefficients(1.0 / total, sigma / total",
        CORE,
    ),
    (
        "process/parameterization.py",
        "data**2 / power / alpha, ratio * data",
        "data**2 / power / alpha, -ratio * data",
        CORE,
    ),
    (
        "process/denoiser.py",
        "(variance + 1.0) / 2.0",
        "(1.0 - variance) / 2.0",
        CORE + " tests/test_golden.py",
    ),
    (
        "process/objective.py",
        "x_0 - like(skip * sigma / out, x_0) * noise",
        "x_0 + like(skip * sigma / out, x_0) * noise",
        CORE,
    ),
    ("process/objective.py", "unknown = (~known).expand_as(error)", "unknown = known.expand_as(error)", CORE),
    (
        "process/objective.py",
        "((alpha / sigma) ** 2).clamp(max=gamma)",
        "((alpha / sigma) ** 2).clamp(min=gamma)",
        CORE,
    ),
    (
        "process/objective.py",
        "0.5 * (other_log_variance - log_variance + spread",
        "0.5 * (log_variance - other_log_variance + spread",
        CORE,
    ),
    (
        "process/objective.py",
        "torch.where(x > edge, 1.0 - lower, torch.where(x < -edge, upper",
        "torch.where(x > edge, lower, torch.where(x < -edge, upper",
        CORE,
    ),
    (
        "process/objective.py",
        "discretized_nll(x_0, mean, 0.5 * log_variance",
        "discretized_nll(x_0, mean, log_variance",
        CORE,
    ),
    (
        "sampling/gaussian.py",
        "sigma_s / sigma_t, alpha_s - alpha_t * sigma_s / sigma_t",
        "sigma_s / sigma_t, alpha_s + alpha_t * sigma_s / sigma_t",
        CORE,
    ),
    (
        "sampling/gaussian.py",
        "= eta**2 * posterior_coefficients",
        "= eta * posterior_coefficients",
        "tests/test_orders.py tests/test_golden.py",
    ),
    ("sampling/gaussian.py", "x_s = x_s + self.scale * variance", "x_s = x_s - self.scale * variance", CORE),
    (
        "sampling/gaussian.py",
        "0.5 * (alpha_s - alpha_t), x_t), like(0.5 * (sigma_s - sigma_t)",
        "(alpha_s - alpha_t), x_t), like(0.5 * (sigma_s - sigma_t)",
        CORE,
    ),
    (
        "sampling/gaussian.py",
        "self.schedule.time(-2.0 * (sigma / alpha * factor).log())",
        "self.schedule.time(-2.0 * (sigma / alpha / factor).log())",
        CORE,
    ),
    ("sampling/gaussian.py", "(mean - carry.mean)", "(carry.mean - mean)", CORE),
    (
        "sampling/gaussian.py",
        "0.5 * h / (now - carry.half_log_snr)",
        "0.5 * (now - carry.half_log_snr) / h",
        "tests/test_golden.py " + CORE,
    ),
    (
        "sampling/gaussian.py",
        "if float(s) <= 0.0:\n            return x_s, None",
        "if float(s) < 0.0:\n            return x_s, None",
        "tests/test_golden.py " + CORE,
    ),
    (
        "sampling/guidance.py",
        "beliefs.rows(0, count).toward(conditional, scale)",
        "conditional.toward(beliefs.rows(0, count), scale)",
        CORE,
    ),
    (
        "sampling/guidance.py",
        "belief.mean + gain * potential_gradient(log_h",
        "belief.mean - gain * potential_gradient(log_h",
        CORE,
    ),
    (
        "sampling/guidance.py",
        "belief.mean.detach() - gain * gradient",
        "belief.mean.detach() + gain * gradient",
        CORE,
    ),
    (
        "sampling/guidance.py",
        "belief.mean - like(scale * variance, x_t) * gradient",
        "belief.mean + like(scale * variance, x_t) * gradient",
        CORE,
    ),
    (
        "sampling/guidance.py",
        "return schedule.sigma(t) ** 2 / alpha",
        "return schedule.sigma(t) / alpha",
        CORE,
    ),
    ("sampling/guidance.py", "mean.clamp(-bound, bound) / bound", "mean.clamp(-bound, bound)", CORE),
    (
        "sampling/guidance.py",
        "(rescale * factor + (1.0 - rescale))",
        "((1.0 - rescale) * factor + rescale)",
        CORE,
    ),
    (
        "sampling/edit.py",
        "torch.where(self.known, self.value, x_t)",
        "torch.where(self.known, x_t, self.value)",
        CORE,
    ),
    ("sampling/edit.py", "x_t + gain * gradient, t, generator", "x_t - gain * gradient, t, generator", CORE),
    ("sampling/loop.py", "x = edit(x, s, generator)", "x = edit(x, t, generator)", CORE),
    ("sampling/loop.py", "edit(x, times[0], generator), None", "x, None", CORE),
    (
        "planning/pursuit.py",
        "- g.damping * velocity",
        "+ g.damping * velocity",
        "tests/planning/test_pursuit.py",
    ),
    (
        "planning/pursuit.py",
        "g.hold_gain * (self.goals - position)",
        "g.hold_gain * (position - self.goals)",
        "tests/planning/test_pursuit.py",
    ),
    (
        "planning/path_geometry.py",
        "np.minimum.accumulate((square + gained)[:0:-1])[::-1] - gained[1:]",
        "square[1:]",
        "tests/planning/test_path.py",
    ),
    (
        "planning/path_model.py",
        "fraction * (goal - start)",
        "fraction * (start - goal)",
        "tests/planning/test_path_model.py",
    ),
    (
        "planning/path_model.py",
        "place >= lengths[:, None] - 1",
        "place >= lengths[:, None]",
        "tests/planning/test_path_model.py",
    ),
    (
        "planning/pursuit.py",
        "position[i]) <= g.touch",
        "position[i]) > g.touch",
        "tests/planning/test_pursuit.py",
    ),
    (
        "planning/pursuit.py",
        "round(g.look_ahead / SPACING), limit)",
        "round(g.look_ahead / SPACING), self.last)",
        "tests/planning/test_pursuit.py",
    ),
    (
        "planning/path_sampler.py",
        "LEVELS.index(0.5), None] * factors",
        "LEVELS.index(0.5), None] / factors",
        "tests/planning/test_planner.py",
    ),
    (
        "planning/direct_trips.py",
        "direct = strides <= slack * fastest",
        "direct = strides >= slack * fastest",
        "tests/planning/test_direct.py",
    ),
    (
        "planning/trajectory_model.py",
        "steps * t - 1.0",
        "steps * t",
        "tests/planning/test_trajectory_model.py tests/planning/test_diffuser.py",
    ),
    (
        "planning/guided_planner.py",
        "torch.cat([last[:, 1:], last[:, -1:]], dim=1)",
        "torch.cat([last[:, 1:], last[:, :1]], dim=1)",
        GUIDED,
    ),
    (
        "planning/guided_planner.py",
        "times[0].expand(len(moved)), noise)",
        "times[-1].expand(len(moved)), noise)",
        GUIDED,
    ),
    ("planning/guided_planner.py", "known.repeat_interleave(k, dim=0)", "known.repeat(k, 1)", GUIDED),
    ("planning/guided_planner.py", "scores.argmax(1)", "scores.argmin(1)", GUIDED),
    ("planning/guided_planner.py", "argsort(descending=True)", "argsort()", GUIDED),
    ("planning/value_guidance.py", "* diffusion_steps) - 1 < stop", "* diffusion_steps) - 1 <= stop", GUIDED),
    (
        "planning/value_guidance.py",
        "(schedule, t, before).small)",
        "(schedule, t, before).small) ** 0.5",
        GUIDED,
    ),
    (
        "planning/value_guidance.py",
        "Ascend(value, gain, steps, between=put_back)",
        "Ascend(value, gain, steps)",
        GUIDED,
    ),
    ("planning/value_guidance.py", "schedule, scale, (0.0, until))", "schedule, scale)", GUIDED),
    (
        "planning/trajectory_model.py",
        "if not model.shape.returns:",
        "if True:",
        "tests/planning/test_asked_returns.py",
    ),
    (
        "network/normalization.py",
        "low + (x + 1.0) *",
        "low + (x - 1.0) *",
        "tests/planning/test_trajectory_model.py",
    ),
    (
        "planning/data/trajectories.py",
        "reward + discount * after",
        "reward + after",
        "tests/planning/data/test_trajectories.py",
    ),
    (
        "planning/data/trajectories.py",
        "+ termination_penalty *",
        "- termination_penalty *",
        "tests/planning/data/test_trajectories.py",
    ),
    (
        "planning/data/trajectories.py",
        "torch.minimum(index, last)",
        "torch.minimum(index, last - 1)",
        "tests/planning/data/test_trajectories.py",
    ),
    (
        "planning/worlds/locomotion/body.py",
        "(returns - body.score_min)",
        "(returns + body.score_min)",
        LT + "episodes.py",
    ),
    (
        "planning/recipes/locomotion/planner.py",
        '0.0 if settings.select == "critic"',
        '0.0 if settings.select != "critic"',
        PRESET,
    ),
    (
        "planning/diffuser.py",
        "[:, :POSITION] + (target - seen)",
        "[:, :POSITION] - (target - seen)",
        "tests/planning/test_diffuser.py",
    ),
    ("planning/diffuser.py", "min(self._step + 1,", "min(self._step,", "tests/planning/test_diffuser.py"),
    (
        "planning/diffuser.py",
        "known[:, [0, -1], ACTION:] = True",
        "known[:, [0], ACTION:] = True",
        "tests/planning/test_diffuser.py",
    ),
    (
        "planning/recipes/maze/paper.py",
        "at_goal[:-1] & ~at_goal[1:]",
        "~at_goal[:-1] & at_goal[1:]",
        "tests/planning/test_diffuser.py",
    ),
    (
        "planning/networks/temporal_unet.py",
        "torch.cat([h, skips.pop()], dim=1)",
        "torch.cat([h, 0.0 * skips.pop()], dim=1)",
        "tests/planning/networks/test_unet1d.py",
    ),
    (
        "network/conv1d.py",
        "+ self.about(F.mish(embedding))[:, :, None]",
        "",
        "tests/planning/networks/test_unet1d.py",
    ),
    (
        "planning/data/windows.py",
        "room = np.minimum(room, longest - 1)",
        "room = np.minimum(room, longest)",
        "tests/planning/data tests/files",
    ),
    (
        "network/layers.py",
        "scores.masked_fill(~mask,",
        "scores.masked_fill(mask,",
        "tests/network tests/planning/networks",
    ),
    (
        "planning/networks/path_transformer.py",
        "left = valid.sum(1, keepdim=True).to(x.dtype) - 1.0 - before",
        "left = valid.shape[1] - 1.0 - before",
        "tests/network tests/planning/networks",
    ),
    (
        "planning/networks/path_transformer.py",
        "mask = None if bool(valid.all()) else valid",
        "mask = None",
        "tests/network tests/planning/networks",
    ),
    (
        "planning/networks/quantiles.py",
        "error = target[:, None] - prediction",
        "error = prediction - target[:, None]",
        "tests/network tests/planning/networks",
    ),
    (
        "planning/data/windows.py",
        "self._last[picked] - strides * self.stride",
        "self._last[picked] - strides * self.stride + 1",
        "tests/planning/data tests/files",
    ),
    (
        "planning/data/windows.py",
        "last = np.repeat(episodes.ends - 1,",
        "last = np.repeat(episodes.ends,",
        "tests/planning/data tests/files",
    ),
    (
        "planning/worlds/maze/layout.py",
        "centres = np.argwhere(self.walls) - BODY_OFFSET",
        "centres = np.argwhere(self.walls) + BODY_OFFSET",
        "tests/planning/worlds/maze/test_maze_layout.py",
    ),
    (
        "planning/worlds/maze/physics.py",
        "np.clip(state[:, 2:], -MAX_SPEED, MAX_SPEED)",
        "state[:, 2:]",
        "tests/planning/worlds/maze/test_maze_physics.py",
    ),
    (
        "planning/worlds/maze/episodes.py",
        "<= GOAL_RADIUS",
        "<= 2 * GOAL_RADIUS",
        "tests/planning/worlds/maze/test_maze_protocol.py",
    ),
    (
        "planning/worlds/maze/controller.py",
        "- DAMPING * vx",
        "+ DAMPING * vx",
        "tests/planning/worlds/maze/test_maze_collect.py",
    ),
    (
        "planning/worlds/maze/collect.py",
        "            state = (*position.tolist(), *velocity.tolist())\n    if",
        "            pass\n    if",
        "tests/planning/worlds/maze/test_maze_collect.py",
    ),
    (
        "planning/worlds/locomotion/episodes.py",
        "self._world.reset(seed=seed + i)",
        "self._world.reset(seed=seed)",
        LT + "episodes.py",
    ),
    (
        "planning/worlds/locomotion/episodes.py",
        "speed + alive - self.body",
        "speed + alive + self.body",
        LT + "episodes.py",
    ),
    (
        "planning/worlds/locomotion/episodes.py",
        "self.terminated[rows] = ~healthy",
        "self.terminated[rows] = healthy",
        LT + "episodes.py",
    ),
    (
        "planning/worlds/locomotion/episodes.py",
        "self.lengths < self.body.steps",
        "self.lengths <= self.body.steps",
        LT + "episodes.py",
    ),
    (
        "planning/worlds/locomotion/behaviour_policies.py",
        "astype(np.float32) - self.mean",
        "astype(np.float32) + self.mean",
        LT + "policy.py",
    ),
    (
        "planning/worlds/locomotion/behaviour_policies.py",
        "np.matmul(rows[:, None, :], layer[0])[:, 0]",
        "np.matmul(rows, layer[0])",
        LT + "policy.py",
    ),
    ("planning/worlds/locomotion/collect.py", "start + first", "start", LT + "collect.py"),
    (
        "planning/worlds/locomotion/collect.py",
        "[not piece.terminated for",
        "[piece.terminated for",
        LT + "collect.py",
    ),
    (
        "planning/worlds/locomotion/collect.py",
        "observations[i, n].copy()",
        "observations[i, n - 1].copy()",
        LT + "collect.py",
    ),
    ("files/npz.py", "if (claimed := sum", "if 0 > (claimed := sum", "tests/files/test_npz.py"),
    ("files/download.py", "have if response.status == 206 else 0", "have", "tests/files/test_download.py"),
    ("files/download.py", "size < total", "size > total", "tests/files/test_download.py"),
    (
        "process/masking.py",
        "uniform < like(1.0 - schedule.alpha(t)",
        "uniform < like(schedule.alpha(t)",
        MASKED,
    ),
    (
        "process/masking.py",
        "return slope / (1.0 - schedule.alpha(t))",
        "return slope / schedule.alpha(t)",
        MASKED,
    ),
    (
        "process/masking.py",
        "lambda t: 1.0 - schedule.alpha(t), exact(share)",
        "lambda t: schedule.alpha(t), exact(share)",
        MASKED,
    ),
    ("process/masked_objective.py", "(rank < count[:, number])", "(rank <= count[:, number])", MASKED),
    ("sampling/masked.py", "u ** (1.0 / count)", "u**count", MASKED),
    ("sampling/masked.py", "(then - (1.0 - again) * now)", "(then - now)", MASKED),
    ("sampling/masked.py", "(1.0 - now) if now < 1.0", "(1.0 - then) if then < 1.0", MASKED),
    ("sampling/masked.py", "clock = torch.where(due,", "clock = torch.where(due.any(),", MASKED),
    ("sampling/masked.py", "gumbel = -(-uniform", "gumbel = (-uniform", MASKED),
    ("sampling/masked.py", "moved = due.to(x_t.device)[:, None]", "moved = due.any().to(x_t.device)", MASKED),
    ("text/networks/transformer.py", "a * self.cos - b * self.sin", "a * self.cos + b * self.sin", LANGUAGE),
    (
        "text/networks/transformer.py",
        ".repeat_interleave(self.heads // self.kv_heads, dim=1)",
        ".repeat(1, self.heads // self.kv_heads, 1, 1)",
        LANGUAGE,
    ),
    ("text/networks/transformer.py", "not clean else query >= key", "not clean else query <= key", LANGUAGE),
    (
        "text/networks/transformer.py",
        "before // self.block < number",
        "before // self.block <= number",
        PREFIX,
    ),
    (
        "text/networks/transformer.py",
        "rule = query == key if prefix is not None",
        "rule = query >= key if prefix is not None",
        PREFIX,
    ),
    ("text/networks/transformer.py", "torch.cat([first, x[:, :-1]]", "torch.cat([x[:, 1:], first]", PREFIX),
    ("text/block_cache.py", "(~shown).long().argsort", "shown.long().argsort", WINDOW),
    ("text/blocks.py", "(x == self.mask_id) & self.among", "(x != self.mask_id) & self.among", WINDOW),
    ("process/masked_objective.py", "(total / count.clamp(min=1))", "(count / total.clamp(min=1))", BLOCKS),
    ("process/masked_objective.py", "key = 2 * number + uniform", "key = 2 * number - uniform", MASKED),
    (
        "text/likelihood.py",
        "t = (1.0 - quantiles[..., k])",
        "t = 0.5 + 0.5 * (1.0 - quantiles[..., k])",
        BLOCKS,
    ),
    ("text/block_cache.py", "columns = positions + padding", "columns = positions - padding", BLOCKS),
    (
        "text/networks/transformer.py",
        "valid.long().cumsum(1) - 1",
        "valid.long().cumsum(1)[:, :1] - 1",
        LANGUAGE,
    ),
    (
        "text/canvas.py",
        "torch.arange(longest, device=device) >= longest",
        "torch.arange(longest, device=device) > longest",
        TEXT,
    ),
    ("text/generation.py", "[generator[i] for i in rows.tolist()]", "list(generator[: len(rows)])", TEXT),
    ("text/blocks.py", "self._active & ~finished", "self._active & ~finished.all()", TEXT),
    ("text/likelihood.py", "generator, where=hidden).float()", "generator).float()", TEXT),
    (
        "text/evaluation/harness.py",
        "prompt[len(prompt) - kept :]",
        "prompt[:kept]",
        "tests/text/evaluation/test_harness.py",
    ),
    (
        "text/data/instructions.py",
        "if message else more",
        "if not message else more",
        "tests/text/data/test_instructions.py",
    ),
    (
        "text/data/tokens.py",
        "yield text[start : seam.end()]",
        "yield text[start : seam.end() - 1]",
        "tests/text/data/test_text.py",
    ),
    ("text/blocks.py", "(end & ~after_mask).any(1)", "end.any(1)", TEXT),
    (
        "text/data/documents.py",
        "len(self.ids) - length + 1",
        "len(self.ids) - length",
        "tests/text/data/test_text.py",
    ),
    (
        "image/networks/blocks2d.py",
        "torch.addcmul(shift, self.second_norm(h), 1.0 + scale)",
        "self.second_norm(torch.addcmul(shift, h, 1.0 + scale))",
        UNET,
    ),
    (
        "image/networks/unet2d.py",
        "torch.cat([h, kept.pop()], dim=1)",
        "torch.cat([h, kept.pop(0)], dim=1)",
        UNET,
    ),
    (
        "image/networks/unet2d.py",
        "embedding = embedding + self.label(",
        "embedding = embedding + 0.0 * self.label(",
        UNET,
    ),
    (
        "image/networks/blocks2d.py",
        "h, x = _halved(h), _halved(x)",
        "h, x = _halved(h), _halved(x.flip(-1))",
        UNET + " " + IMAGE,
    ),
    ("image/model.py", "0.25 * schedule.sigma(t).log()", "schedule.sigma(t).log()", IMAGE),
    ("image/model.py", "shape.diffusion_steps * t - index", "shape.diffusion_steps * t", IMAGE),
    ("image/model.py", "20.0 / shape.diffusion_steps", "0.02", IMAGE),
    (
        "image/training.py",
        "schedule.time(-2.0 * (1.2 * normal - 1.2))",
        "schedule.time(-2.0 * (1.2 * normal + 1.2))",
        IMAGE,
    ),
    (
        "image/training.py",
        "torch.where(batch.dropped, shape.classes, batch.labels)",
        "torch.where(batch.dropped, batch.labels, 2)",
        IMAGE,
    ),
    ("image/generation.py", "Branch(cond), Branch(null)", "Branch(null), Branch(cond)", IMAGE),
    ("image/likelihood.py", 'float(variance == "large")', 'float(variance == "small")', IMAGE),
    ("image/likelihood.py", "(i - 1) / steps", "(i - 0.5) / steps", IMAGE),
    (
        "process/importance.py",
        "1.0 / (len(p) * p[places])",
        "len(p) * p[places]",
        "tests/process/test_importance.py",
    ),
    ("process/importance.py", "square().mean(1).sqrt()", "mean(1)", "tests/process/test_importance.py"),
    (
        "process/objective.py",
        "torch.ones_like(x_t) if belief",
        "torch.zeros_like(x_t) if belief",
        "tests/process/test_objective.py",
    ),
    (
        "process/grid.py",
        "stretches += [times[start : start + 1], stretch]",
        "stretches += [stretch]",
        "tests/process/test_grid.py",
    ),
    (
        "process/grid.py",
        "reversed(range(1, train_steps + 1, stride))",
        "reversed(range(stride, train_steps + 1, stride))",
        "tests/process/test_grid.py",
    ),
    (
        "sampling/gaussian.py",
        "ratio = self.schedule.alpha(s) / self.schedule.alpha(t)",
        "ratio = self.schedule.alpha(t) / self.schedule.alpha(s)",
        "tests/sampling/test_edit.py",
    ),
    (
        "image/networks/classifier2d.py",
        "self.query(tokens[:, :1])",
        "self.query(tokens[:, 1:2])",
        "tests/image/networks/test_classifier2d.py",
    ),
    ("image/classifier.py", "log_softmax(dim=1).gather", "softmax(dim=1).gather", CLASSIFIER),
    (
        "image/generation.py",
        "tilted(denoise, log_h, schedule, settings",
        "tilted(denoise, log_h, schedule, -settings",
        CLASSIFIER,
    ),
    (
        "image/generation.py",
        "kept = times[nearest:].clone()",
        "kept = times[nearest + 1 :].clone()",
        RESTORATION,
    ),
    ("image/generation.py", "else within(log_h, settings.interval)", "else log_h", CLASSIFIER),
    (
        "text/blocks.py",
        "ideal = [steps * count / total",
        "ideal = [steps / len(counts)",
        "tests/text/test_text_blocks.py",
    ),
    (
        "image/evaluation/linear_probe.py",
        "penalty * count * np.eye(x.shape[1])",
        "-penalty * count * np.eye(x.shape[1])",
        METRICS,
    ),
    (
        "image/recipes/evaluate.py",
        "None if labels is None else labels.numpy()",
        "None",
        "tests/image/recipes/test_image_recipe.py",
    ),
    (
        "image/weights/openai_classifier.py",
        "value[:channels], value[channels:]",
        "value[-channels:], value[:-channels]",
        "tests/image/weights/test_openai_classifier.py",
    ),
    (
        "image/data/images.py",
        "numbers[images.labels], names=train.names",
        "images.labels, names=train.names",
        "tests/image/data/test_images.py",
    ),
    (
        "image/restoration.py",
        "noise**2 + spread / self.factor**2",
        "noise**2 + spread * self.factor**2",
        RESTORATION,
    ),
    ("image/restoration.py", "return 0.5 * (miss", "return (miss", RESTORATION),
    ("image/restoration.py", "-2.0 * (pi * self.deviation)", "2.0 * (pi * self.deviation)", RESTORATION),
    (
        "image/evaluation/restoration.py",
        "10.0 * np.log10",
        "20.0 * np.log10",
        "tests/image/evaluation/test_image_quality.py",
    ),
    ("image/evaluation/distances.py", "- 2.0 * cross", "- cross", METRICS),
    (
        "image/evaluation/distances.py",
        "(k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))",
        "k.mean()",
        METRICS,
    ),
    (
        "image/evaluation/distances.py",
        "_covered(made, real, k), _covered(real, made, k)",
        "_covered(real, made, k), _covered(made, real, k)",
        METRICS,
    ),
    (
        "image/evaluation/distances.py",
        "np.partition(d, k, axis=1)[:, k]",
        "np.partition(d, k - 1, axis=1)[:, k - 1]",
        METRICS,
    ),
    ("image/evaluation/features.py", ".flip(1)", "", METRICS),
    ("image/networks/blocks2d.py", "F.pad(x, (0, 1, 0, 1))", "F.pad(x, (1, 0, 1, 0))", UNET),
    ("image/networks/blocks2d.py", "waves.roll(width // 2, -1)", "waves.flip(-1)", UNET),
    (
        "image/networks/blocks2d.py",
        "F.pad(valid, (0, pixels.shape[1])",
        "F.pad(valid, (pixels.shape[1], 0)",
        UNET,
    ),
    ("image/networks/blocks2d.py", "torch.cat([text_v, v], dim=2)", "torch.cat([v, text_v], dim=2)", UNET),
    ("image/networks/transformer2d.py", "| ~some)", "| True)", UNET),
    ("image/networks/transformer2d.py", "value * F.gelu(gate)", "gate * F.gelu(value)", TRANSFORMER),
    ("image/networks/transformer2d.py", "channels, eps=1e-6)", "channels, eps=1e-5)", TRANSFORMER),
    ("image/networks/dit.py", "for part in (across, down)]", "for part in (down, across)]", DIT),
    ("image/networks/dit.py", "permute(0, 5, 1, 3, 2, 4)", "permute(0, 5, 1, 4, 2, 3)", DIT),
    ("image/weights/stable_diffusion_autoencoder.py", "else levels - 1 - k", "else k", STABLE_DIFFUSION),
    (
        "image/weights/stable_diffusion_description.py",
        'if use in ("inpainting", "depth to image"):',
        'if use in ("depth to image",):',
        STABLE_DIFFUSION,
    ),
    ("image/weights/stable_diffusion_unet.py", "size // number for", "number for", STABLE_DIFFUSION),
    (
        "image/weights/stable_diffusion_writing.py",
        "(1.0 - before) * alpha.sqrt() / (1.0 - bar)",
        "(1.0 - before) * bar.sqrt() / (1.0 - bar)",
        STABLE_DIFFUSION,
    ),
    ("image/networks/linear_unet2d.py", "k.softmax(dim=-2)", "k.softmax(dim=-1)", LINEAR),
    (
        "image/networks/linear_unet2d.py",
        "(q.softmax(dim=-1) * q.shape[-1] ** -0.5)",
        "q.softmax(dim=-1)",
        LINEAR,
    ),
    ("image/networks/linear_unet2d.py", "* self.gain * x.shape[1] ** 0.5", "* self.gain", LINEAR),
    ("image/weights/diffusers.py", 'for p in "qkv"]', 'for p in "kqv"]', FOREIGN),
    (
        "image/weights/openai.py",
        "value.unflatten(0, (count, 3, -1))",
        "value.unflatten(0, (3, count, -1)).transpose(0, 1)",
        FOREIGN,
    ),
    ("image/weights/openai.py", "1000.0 / steps if", "steps / 1000.0 if", FOREIGN),
    (
        "image/weights/denoising_diffusion_pytorch.py",
        '("x0", snr), ("v", snr / (1.0 + snr))',
        '("v", snr), ("x0", snr / (1.0 + snr))',
        FOREIGN,
    ),
    ("image/data/images.py", "pixels.flip(-1)", "pixels.flip(-2)", "tests/image/data/test_images.py"),
    (
        "image/data/source.py",
        'np.frombuffer(sizes, ">u4")',
        'np.frombuffer(sizes, "<u4")',
        "tests/image/data/test_images.py",
    ),
    (
        "training/ema.py",
        "self.weights[name].lerp_(value, 1.0 - decay)",
        "self.weights[name].lerp_(value, decay)",
        "tests/training/test_ema.py",
    ),
    (
        "policy/realtime.py",
        "np.roll(self.chunks[rows], -s, axis=1)",
        "np.roll(self.chunks[rows], s, axis=1)",
        "tests/policy/test_realtime.py",
    ),
    ("policy/realtime.py", "most * alpha / sigma", "most * sigma / alpha", "tests/policy/test_realtime.py"),
    ("policy/realtime.py", "c * expm1(c)", "expm1(c)", "tests/policy/test_realtime.py"),
    (
        "policy/realtime.py",
        "self._episode[rows] += 1",
        "self._episode[rows] += 0",
        "tests/policy/test_realtime.py",
    ),
    (
        "policy/realtime.py",
        "self._position[rows] < 0, 0, self._skipped",
        "self._position[rows] < 0, 0, self.delay",
        "tests/policy/test_realtime.py",
    ),
    (
        "policy/model.py",
        "(row >= 0) & (row < counts",
        "(row >= 0) & (row <= counts",
        "tests/policy/test_policy.py",
    ),
    ("policy/model.py", "/ 127.5 - 1.0", "/ 127.5", "tests/policy/test_policy_training.py"),
    (
        "training/distillation.py",
        "(student(x_t, t).mean - end)",
        "(student(x_t, t).mean + end)",
        "tests/training/test_distillation.py",
    ),
    (
        "policy/distillation.py",
        "times[positions]",
        "times[1 + positions]",
        "tests/policy/test_policy_distillation.py",
    ),
    (
        "sampling/gaussian.py",
        "like(self.schedule.alpha(s), x_t) * end",
        "end",
        "tests/training/test_distillation.py",
    ),
    ("sampling/noise.py", "manual_seed(seed + i)", "manual_seed(seed)", NOISE),
    (
        "sampling/noise.py",
        "x.shape[1:])\n    parts",
        "x.shape[1:])\n    generator = [generator[0]] * len(generator)\n    parts",
        NOISE,
    ),
    (
        "sampling/masked.py",
        "(logits, self.temperature, generator, open_)",
        "(logits, self.temperature, generator)",
        NOISE,
    ),
    (
        "sampling/masked.py",
        "_fallen(clock, hidden, generator, due)",
        "_fallen(clock, hidden, generator, hidden.any(1))",
        NOISE,
    ),
    (
        "sampling/masked.py",
        "(logits, self.temperature, generator, changing)",
        "(logits, self.temperature, generator)",
        NOISE,
    ),
]


def test_the_list_knows_the_code():
    """What is flipped stands in exactly one place, and the tests that must notice exist: moved code takes its
    line here along."""
    for file, before, after, tests in FLIPS:
        count = (ROOT / "src" / "unveil" / file).read_text().count(before)
        assert count == 1, f"{count} places of {file} hold {before!r}; update the list"
        assert before != after
        assert all((ROOT / test).exists() for test in tests.split()), tests


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "before", "after", "tests"), FLIPS, ids=[f"{f[0]}-{i}" for i, f in enumerate(FLIPS)]
)
def test_a_flip_is_noticed(file, before, after, tests, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    path = tmp_path / "src" / "unveil" / file
    path.write_text(path.read_text().replace(before, after))
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "src"),
        "UNVEIL_UNCHECKED": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        *tests.split(),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 1, f"the tests did not notice:\n{done.stdout[-1500:]}"
