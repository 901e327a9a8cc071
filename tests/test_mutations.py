"""Flip signs and indices in the core, one at a time, in a copy; the tests named beside each must fail. Slow: minutes.

That each line of the list still stands in the code is checked at once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

P, S, A, N, D, W = "process/", "sampling/", "apps/", "network/", "data/", "worlds/maze/"
L, LT = "worlds/locomotion/", "tests/worlds/test_locomotion_"
CORE = "tests/process tests/sampling tests/test_equivalences.py tests/test_orders.py"
GUIDED, PRESET = "tests/apps/test_guided.py", "tests/recipes/test_locomotion_preset.py"
MASKED = "tests/process/test_masking.py tests/sampling/test_masked.py"
LANGUAGE, TEXT = "tests/network/test_language.py", "tests/apps/test_text_model.py"
PREFIX, BLOCKS, WINDOW = "tests/network/test_prefix.py", "tests/apps/test_text_blocks.py", "tests/apps/test_text_window.py"
UNET, IMAGE, METRICS = "tests/network/test_unet2d.py", "tests/apps/test_image_model.py", "tests/evaluation/test_image_distances.py"
CLASSIFIER, RESTORATION = "tests/apps/test_image_classifier.py", "tests/apps/test_image_restoration.py"
V, G = "evaluation/", "weights/"
LINEAR, FOREIGN = "tests/network/test_linear_unet2d.py", "tests/weights/test_foreign_images.py"
NOISE = "tests/sampling/test_noise.py"
FLIPS = [
    # (file, what stands there, what is put in its place, the tests that must notice)
    (P + "schedule.py", "return 2.0 * (schedule.alpha(t).log() - schedule", "return 2.0 * (schedule.alpha(t).log() + schedule", CORE),
    (P + "schedule.py", "0.5 * (self.beta_max - self.beta_min) * t**2", "(self.beta_max - self.beta_min) * t**2", CORE),
    (P + "schedule.py", "+ first * rise * t**2", "- first * rise * t**2", CORE),
    (P + "schedule.py", "(angle + first).sin() * (angle - first).sin()", "(angle + first).sin() * (angle + first).sin()", CORE),
    (P + "schedule.py", "return (-0.5 * _bounded(log_snr)).sigmoid()", "return (0.5 * _bounded(log_snr)).sigmoid()", CORE),
    (P + "schedule.py", "self._entries[lower + 1], place - lower", "self._entries[lower + 1], lower + 1 - place", CORE),
    (P + "schedule.py", "(upper - 1 + (wanted", "(upper + (wanted", CORE),
    (
        P + "schedule.py",
        "1.0 - alpha_bar[1:] / alpha_bar[:-1]",
        "1.0 - alpha_bar[:-1] / alpha_bar[1:]",
        "tests/process tests/test_golden.py",
    ),
    (P + "grid.py", "ratio = (high + place * (low - high)) ** rho", "ratio = (low + place * (high - low)) ** rho", CORE),
    (P + "grid.py", "start + round(k * stride) + 1", "start + round(k * stride)", CORE),
    (P + "grid.py", "schedule.time(-2.0 * ratio.log())", "schedule.time(2.0 * ratio.log())", CORE),
    (P + "corrupt.py", "+ like(schedule.sigma(t), x_0) * noise", "- like(schedule.sigma(t), x_0) * noise", CORE),
    (P + "corrupt.py", "torch.where(known, x_0, x_t)", "torch.where(known, x_t, x_0)", CORE),
    (
        P + "posterior.py",
        "torch.expm1(log_snr_t - log_snr_s)",
        "torch.expm1(log_snr_s - log_snr_t)",
        CORE,
    ),
    (P + "posterior.py", "keep = (sigma_s / sigma_t) ** 2", "keep = sigma_s / sigma_t", CORE),
    (P + "posterior.py", "alpha_s * large / sigma_t**2", "alpha_t * large / sigma_t**2", CORE),
    (P + "posterior.py", "low + fraction * (high - low)", "high + fraction * (low - high)", CORE),
    (P + "posterior.py", "(2.0 * t).clamp(max=1.0)", "(3.0 * t).clamp(max=1.0)", CORE),
    (P + "denoised.py", "self.mean + scale * (other.mean - self.mean)", "self.mean - scale * (other.mean - self.mean)", CORE),
    (P + "denoised.py", "self.logits + scale * (other.logits - self.logits)", "other.logits + scale * (self.logits - other.logits)", CORE),
    (P + "parameterization.py", "Coefficients(1.0 / alpha, -sigma / alpha", "Coefficients(1.0 / alpha, sigma / alpha", CORE),
    (P + "parameterization.py", "Coefficients(alpha / power, -sigma / power", "Coefficients(alpha / power, sigma / power", CORE),
    (P + "parameterization.py", "Coefficients(1.0 / total, -sigma / total", "Coefficients(1.0 / total, sigma / total", CORE),
    (P + "parameterization.py", "data**2 / power / alpha, ratio * data", "data**2 / power / alpha, -ratio * data", CORE),
    (P + "denoiser.py", "(variance + 1.0) / 2.0", "(1.0 - variance) / 2.0", CORE + " tests/test_golden.py"),
    (P + "objective.py", "x_0 - like(skip * sigma / out, x_0) * noise", "x_0 + like(skip * sigma / out, x_0) * noise", CORE),
    (P + "objective.py", "unknown = (~known).expand_as(error)", "unknown = known.expand_as(error)", CORE),
    (P + "objective.py", "((alpha / sigma) ** 2).clamp(max=gamma)", "((alpha / sigma) ** 2).clamp(min=gamma)", CORE),
    (P + "objective.py", "0.5 * (other_log_variance - log_variance + spread", "0.5 * (log_variance - other_log_variance + spread", CORE),
    (
        P + "objective.py",
        "torch.where(x > edge, 1.0 - lower, torch.where(x < -edge, upper",
        "torch.where(x > edge, lower, torch.where(x < -edge, upper",
        CORE,
    ),
    (P + "objective.py", "discretized_nll(x_0, mean, 0.5 * log_variance", "discretized_nll(x_0, mean, log_variance", CORE),
    (
        S + "gaussian.py",
        "sigma_s / sigma_t, alpha_s - alpha_t * sigma_s / sigma_t",
        "sigma_s / sigma_t, alpha_s + alpha_t * sigma_s / sigma_t",
        CORE,
    ),
    (
        S + "gaussian.py",
        "= eta**2 * posterior_coefficients",
        "= eta * posterior_coefficients",
        "tests/test_orders.py tests/test_golden.py",
    ),
    (S + "gaussian.py", "x_s = x_s + self.scale * variance", "x_s = x_s - self.scale * variance", CORE),
    (
        S + "gaussian.py",
        "0.5 * (alpha_s - alpha_t), x_t), like(0.5 * (sigma_s - sigma_t)",
        "(alpha_s - alpha_t), x_t), like(0.5 * (sigma_s - sigma_t)",
        CORE,
    ),
    (
        S + "gaussian.py",
        "self.schedule.time(-2.0 * (sigma / alpha * factor).log())",
        "self.schedule.time(-2.0 * (sigma / alpha / factor).log())",
        CORE,
    ),
    (S + "gaussian.py", "(mean - carry.mean)", "(carry.mean - mean)", CORE),
    (S + "gaussian.py", "0.5 * h / (now - carry.half_log_snr)", "0.5 * (now - carry.half_log_snr) / h", "tests/test_golden.py " + CORE),
    (
        S + "gaussian.py",
        "if float(s) <= 0.0:\n            return x_s, None",
        "if float(s) < 0.0:\n            return x_s, None",
        "tests/test_golden.py " + CORE,
    ),
    (S + "guidance.py", "beliefs.rows(0, count).toward(conditional, scale)", "conditional.toward(beliefs.rows(0, count), scale)", CORE),
    (S + "guidance.py", "belief.mean + gain * potential_gradient(log_h", "belief.mean - gain * potential_gradient(log_h", CORE),
    (S + "guidance.py", "belief.mean.detach() - gain * gradient", "belief.mean.detach() + gain * gradient", CORE),
    (
        S + "guidance.py",
        "belief.mean - like(scale * variance, x_t) * gradient",
        "belief.mean + like(scale * variance, x_t) * gradient",
        CORE,
    ),
    (S + "guidance.py", "return schedule.sigma(t) ** 2 / alpha", "return schedule.sigma(t) / alpha", CORE),
    (S + "guidance.py", "mean.clamp(-bound, bound) / bound", "mean.clamp(-bound, bound)", CORE),
    (S + "guidance.py", "(rescale * factor + (1.0 - rescale))", "((1.0 - rescale) * factor + rescale)", CORE),
    (S + "edit.py", "torch.where(self.known, self.value, x_t)", "torch.where(self.known, x_t, self.value)", CORE),
    (S + "edit.py", "x_t + gain * gradient, t, generator", "x_t - gain * gradient, t, generator", CORE),
    (S + "loop.py", "x = edit(x, s, generator)", "x = edit(x, t, generator)", CORE),
    (S + "loop.py", "edit(x, times[0], generator), None", "x, None", CORE),
    (A + "pursuit.py", "- g.damping * velocity", "+ g.damping * velocity", "tests/apps/test_pursuit.py"),
    (A + "pursuit.py", "g.hold_gain * (self.goals - position)", "g.hold_gain * (position - self.goals)", "tests/apps/test_pursuit.py"),
    (A + "path.py", "np.minimum.accumulate((square + gained)[:0:-1])[::-1] - gained[1:]", "square[1:]", "tests/apps/test_path.py"),
    (A + "path_model.py", "fraction * (goal - start)", "fraction * (start - goal)", "tests/apps/test_path_model.py"),
    (A + "path_model.py", "place >= lengths[:, None] - 1", "place >= lengths[:, None]", "tests/apps/test_path_model.py"),
    (A + "pursuit.py", "position[i]) <= g.touch", "position[i]) > g.touch", "tests/apps/test_pursuit.py"),
    (A + "pursuit.py", "round(g.look_ahead / SPACING), limit)", "round(g.look_ahead / SPACING), self.last)", "tests/apps/test_pursuit.py"),
    (A + "planner.py", "LEVELS.index(0.5), None] * factors", "LEVELS.index(0.5), None] / factors", "tests/apps/test_planner.py"),
    (A + "direct.py", "direct = strides <= slack * fastest", "direct = strides >= slack * fastest", "tests/apps/test_direct.py"),
    (A + "trajectory_model.py", "steps * t - 1.0", "steps * t", "tests/apps/test_trajectory_model.py tests/apps/test_diffuser.py"),
    (A + "guided.py", "torch.cat([last[:, 1:], last[:, -1:]], dim=1)", "torch.cat([last[:, 1:], last[:, :1]], dim=1)", GUIDED),
    (A + "guided.py", "times[0].expand(len(moved)), noise)", "times[-1].expand(len(moved)), noise)", GUIDED),
    (A + "guided.py", "known.repeat_interleave(k, dim=0)", "known.repeat(k, 1)", GUIDED),
    (A + "guided.py", "scores.argmax(1)", "scores.argmin(1)", GUIDED),
    (A + "guided.py", "argsort(descending=True)", "argsort()", GUIDED),
    (A + "guidance_forms.py", "* diffusion_steps) - 1 < stop", "* diffusion_steps) - 1 <= stop", GUIDED),
    (A + "guidance_forms.py", "(schedule, t, before).small)", "(schedule, t, before).small) ** 0.5", GUIDED),
    (A + "guidance_forms.py", "Ascend(value, gain, steps, between=put_back)", "Ascend(value, gain, steps)", GUIDED),
    (A + "guidance_forms.py", "schedule, scale, (0.0, until))", "schedule, scale)", GUIDED),
    (A + "trajectory_model.py", "if not model.shape.returns:", "if True:", "tests/apps/test_asked_returns.py"),
    (A + "trajectory_model.py", "low + (x + 1.0) *", "low + (x - 1.0) *", "tests/apps/test_trajectory_model.py"),
    (D + "trajectories.py", "reward + discount * after", "reward + after", "tests/data/test_trajectories.py"),
    (D + "trajectories.py", "+ termination_penalty *", "- termination_penalty *", "tests/data/test_trajectories.py"),
    (D + "trajectories.py", "torch.minimum(index, last)", "torch.minimum(index, last - 1)", "tests/data/test_trajectories.py"),
    (L + "body.py", "(returns - body.score_min)", "(returns + body.score_min)", LT + "episodes.py"),
    ("recipes/locomotion_eval.py", '0.0 if config.select == "critic"', '0.0 if config.select != "critic"', PRESET),
    (A + "diffuser.py", "[:, :POSITION] + (target - seen)", "[:, :POSITION] - (target - seen)", "tests/apps/test_diffuser.py"),
    (A + "diffuser.py", "min(self._step + 1,", "min(self._step,", "tests/apps/test_diffuser.py"),
    (A + "diffuser.py", "known[:, [0, -1], ACTION:] = True", "known[:, [0], ACTION:] = True", "tests/apps/test_diffuser.py"),
    ("recipes/maze_paper.py", "at_goal[:-1] & ~at_goal[1:]", "~at_goal[:-1] & at_goal[1:]", "tests/apps/test_diffuser.py"),
    (N + "unet1d.py", "torch.cat([h, kept.pop()], dim=1)", "torch.cat([h, 0.0 * kept.pop()], dim=1)", "tests/network/test_unet1d.py"),
    (N + "conv1d.py", "+ self.about(F.mish(about))[:, :, None]", "", "tests/network/test_unet1d.py"),
    (D + "windows.py", "room = np.minimum(room, longest - 1)", "room = np.minimum(room, longest)", "tests/data"),
    (N + "layers.py", "scores.masked_fill(~mask,", "scores.masked_fill(mask,", "tests/network"),
    (
        N + "path_transformer.py",
        "left = valid.sum(1, keepdim=True).to(x.dtype) - 1.0 - before",
        "left = valid.shape[1] - 1.0 - before",
        "tests/network",
    ),
    (N + "path_transformer.py", "mask = None if bool(valid.all()) else valid", "mask = None", "tests/network"),
    (N + "quantiles.py", "miss = target[:, None] - prediction", "miss = prediction - target[:, None]", "tests/network"),
    (D + "windows.py", "self._last[picked] - strides * self.stride", "self._last[picked] - strides * self.stride + 1", "tests/data"),
    (D + "windows.py", "last = np.repeat(episodes.ends - 1,", "last = np.repeat(episodes.ends,", "tests/data"),
    (
        W + "layout.py",
        "centres = np.argwhere(self.walls) - BODY_OFFSET",
        "centres = np.argwhere(self.walls) + BODY_OFFSET",
        "tests/worlds/test_maze_layout.py",
    ),
    (W + "physics.py", "np.clip(state[:, 2:], -MAX_SPEED, MAX_SPEED)", "state[:, 2:]", "tests/worlds/test_maze_physics.py"),
    (W + "episodes.py", "<= GOAL_RADIUS", "<= 2 * GOAL_RADIUS", "tests/worlds/test_maze_protocol.py"),
    (W + "controller.py", "- DAMPING * vx", "+ DAMPING * vx", "tests/worlds/test_maze_collect.py"),
    (
        W + "collect.py",
        "            state = (*position.tolist(), *velocity.tolist())\n    if",
        "            pass\n    if",
        "tests/worlds/test_maze_collect.py",
    ),
    (L + "episodes.py", "self._world.reset(seed=seed + i)", "self._world.reset(seed=seed)", LT + "episodes.py"),
    (L + "episodes.py", "speed + alive - self.body", "speed + alive + self.body", LT + "episodes.py"),
    (L + "episodes.py", "self.terminated[rows] = ~healthy", "self.terminated[rows] = healthy", LT + "episodes.py"),
    (L + "episodes.py", "self.lengths < self.body.steps", "self.lengths <= self.body.steps", LT + "episodes.py"),
    (L + "policy.py", "astype(np.float32) - self.mean", "astype(np.float32) + self.mean", LT + "policy.py"),
    (L + "policy.py", "np.matmul(rows[:, None, :], layer[0])[:, 0]", "np.matmul(rows, layer[0])", LT + "policy.py"),
    (L + "collect.py", "start + first", "start", LT + "collect.py"),
    (L + "collect.py", "[not piece.terminated for", "[piece.terminated for", LT + "collect.py"),
    (L + "collect.py", "observations[i, n].copy()", "observations[i, n - 1].copy()", LT + "collect.py"),
    (D + "npz.py", "if (claimed := sum", "if 0 > (claimed := sum", "tests/data/test_npz.py"),
    (D + "download.py", "have if response.status == 206 else 0", "have", "tests/data/test_download.py"),
    (D + "download.py", "size < total", "size > total", "tests/data/test_download.py"),
    (P + "masking.py", "uniform < like(1.0 - schedule.alpha(t)", "uniform < like(schedule.alpha(t)", MASKED),
    (P + "masking.py", "return slope / (1.0 - schedule.alpha(t))", "return slope / schedule.alpha(t)", MASKED),
    (P + "masking.py", "below = 1.0 - schedule.alpha(middle) < share", "below = schedule.alpha(middle) < share", MASKED),
    (P + "masked_objective.py", "(rank < count[:, number])", "(rank <= count[:, number])", MASKED),
    (S + "masked.py", "u ** (1.0 / count)", "u**count", MASKED),
    (S + "masked.py", "(then - (1.0 - again) * now)", "(then - now)", MASKED),
    (S + "masked.py", "(1.0 - now) if now < 1.0", "(1.0 - then) if then < 1.0", MASKED),
    (S + "masked.py", "clock = torch.where(due,", "clock = torch.where(due.any(),", MASKED),
    (S + "masked.py", "gumbel = -(-uniform", "gumbel = (-uniform", MASKED),
    (S + "masked.py", "moved = due.to(x_t.device)[:, None]", "moved = due.any().to(x_t.device)", MASKED),
    (N + "language.py", "a * self.cos - b * self.sin", "a * self.cos + b * self.sin", LANGUAGE),
    (
        N + "language.py",
        ".repeat_interleave(self.heads // self.kv_heads, dim=1)",
        ".repeat(1, self.heads // self.kv_heads, 1, 1)",
        LANGUAGE,
    ),
    (N + "language.py", "not clean else query >= key", "not clean else query <= key", LANGUAGE),
    (N + "language.py", "before // self.block < number", "before // self.block <= number", PREFIX),
    (N + "language.py", "rule = query == key if prefix is not None", "rule = query >= key if prefix is not None", PREFIX),
    (N + "language.py", "torch.cat([first, x[:, :-1]]", "torch.cat([x[:, 1:], first]", PREFIX),
    (A + "text_window.py", "(~shown).long().argsort", "shown.long().argsort", WINDOW),
    (A + "text_generation.py", "asked & (x == mask)", "asked & (x != mask)", WINDOW),
    ("process/masked_objective.py", "(total / count.clamp(min=1))", "(count / total.clamp(min=1))", BLOCKS),
    ("process/masked_objective.py", "key = 2 * number + uniform", "key = 2 * number - uniform", MASKED),
    (A + "text_likelihood.py", "t = (1.0 - places[..., k])", "t = 0.5 + 0.5 * (1.0 - places[..., k])", BLOCKS),
    (A + "text_window.py", "columns = places + padding", "columns = places - padding", BLOCKS),
    (N + "language.py", "valid.long().cumsum(1) - 1", "valid.long().cumsum(1)[:, :1] - 1", LANGUAGE),
    (A + "text_canvas.py", "torch.arange(longest, device=device) >= longest", "torch.arange(longest, device=device) > longest", TEXT),
    (A + "text_generation.py", "[generator[i] for i in rows.tolist()]", "list(generator[: len(rows)])", TEXT),
    (A + "text_generation.py", "active.masked_fill_(rests[:, None], False)", "active.masked_fill_(rests.all(), False)", TEXT),
    (A + "text_likelihood.py", "generator, where=hidden).float()", "generator).float()", TEXT),
    ("evaluation/harness.py", "prompt[len(prompt) - kept :]", "prompt[:kept]", "tests/evaluation/test_harness.py"),
    (D + "instructions.py", "if asked else more", "if not asked else more", "tests/data/test_instructions.py"),
    (D + "tokens.py", "yield text[start : seam.end()]", "yield text[start : seam.end() - 1]", "tests/data/test_text.py"),
    (A + "text_generation.py", "(end & ~open_).any(1)", "end.any(1)", TEXT),
    (D + "text.py", "len(self.ids) - length + 1", "len(self.ids) - length", "tests/data/test_text.py"),
    (
        N + "unet2d.py",
        "torch.addcmul(shift, self.second_norm(h), 1.0 + scale)",
        "self.second_norm(torch.addcmul(shift, h, 1.0 + scale))",
        UNET,
    ),
    (N + "unet2d.py", "torch.cat([h, kept.pop()], dim=1)", "torch.cat([h, kept.pop(0)], dim=1)", UNET),
    (N + "unet2d.py", "about = about + self.label(", "about = about + 0.0 * self.label(", UNET),
    (N + "unet2d.py", "h, x = _halved(h), _halved(x)", "h, x = _halved(h), _halved(x.flip(-1))", UNET + " " + IMAGE),
    (A + "image_model.py", "0.25 * schedule.sigma(t).log()", "schedule.sigma(t).log()", IMAGE),
    (A + "image_model.py", "shape.diffusion_steps * t - index", "shape.diffusion_steps * t", IMAGE),
    (A + "image_model.py", "20.0 / shape.diffusion_steps", "0.02", IMAGE),
    (A + "image_training.py", "schedule.time(-2.0 * (1.2 * normal - 1.2))", "schedule.time(-2.0 * (1.2 * normal + 1.2))", IMAGE),
    (
        A + "image_training.py",
        "torch.where(batch.dropped, shape.classes, batch.labels)",
        "torch.where(batch.dropped, batch.labels, 2)",
        IMAGE,
    ),
    (A + "image_generation.py", "Branch(cond), Branch(null)", "Branch(null), Branch(cond)", IMAGE),
    (A + "image_likelihood.py", 'float(variance == "large")', 'float(variance == "small")', IMAGE),
    (A + "image_likelihood.py", "(i - 1) / steps", "(i - 0.5) / steps", IMAGE),
    (P + "importance.py", "1.0 / (len(p) * p[places])", "len(p) * p[places]", "tests/process/test_importance.py"),
    (P + "importance.py", "square().mean(1).sqrt()", "mean(1)", "tests/process/test_importance.py"),
    (P + "objective.py", "torch.ones_like(x_t) if belief", "torch.zeros_like(x_t) if belief", "tests/process/test_objective.py"),
    (P + "grid.py", "found += [times[start : start + 1], stretch]", "found += [stretch]", "tests/process/test_grid.py"),
    (
        P + "grid.py",
        "reversed(range(1, train_steps + 1, stride))",
        "reversed(range(stride, train_steps + 1, stride))",
        "tests/process/test_grid.py",
    ),
    (
        S + "gaussian.py",
        "ratio = self.schedule.alpha(s) / self.schedule.alpha(t)",
        "ratio = self.schedule.alpha(t) / self.schedule.alpha(s)",
        "tests/sampling/test_edit.py",
    ),
    (N + "classifier2d.py", "self.query(tokens[:, :1])", "self.query(tokens[:, 1:2])", "tests/network/test_classifier2d.py"),
    (A + "image_classifier.py", "log_softmax(dim=1).gather", "softmax(dim=1).gather", CLASSIFIER),
    (A + "image_generation.py", "tilted(denoise, log_h, schedule, settings", "tilted(denoise, log_h, schedule, -settings", CLASSIFIER),
    (A + "image_generation.py", "kept = times[nearest:].clone()", "kept = times[nearest + 1 :].clone()", RESTORATION),
    (A + "image_generation.py", "else within(log_h, settings.interval)", "else log_h", CLASSIFIER),
    (A + "text_generation.py", "ideal = [steps * count / total", "ideal = [steps / len(counts)", "tests/apps/test_text_blocks.py"),
    (V + "image_classes.py", "penalty * count * np.eye(x.shape[1])", "-penalty * count * np.eye(x.shape[1])", METRICS),
    ("recipes/image_eval.py", "None if labels is None else labels.numpy()", "None", "tests/recipes/test_image_recipe.py"),
    (
        G + "openai_classifier.py",
        "value[:channels], value[channels:]",
        "value[-channels:], value[:-channels]",
        "tests/weights/test_openai_classifier.py",
    ),
    (D + "images.py", "numbers[images.labels], names=train.names", "images.labels, names=train.names", "tests/data/test_images.py"),
    (A + "image_restoration.py", "noise**2 + spread / self.factor**2", "noise**2 + spread * self.factor**2", RESTORATION),
    (A + "image_restoration.py", "return 0.5 * (miss", "return (miss", RESTORATION),
    (A + "image_restoration.py", "-2.0 * (pi * self.deviation)", "2.0 * (pi * self.deviation)", RESTORATION),
    (V + "image_quality.py", "10.0 * np.log10", "20.0 * np.log10", "tests/evaluation/test_image_quality.py"),
    (V + "image_distances.py", "- 2.0 * cross", "- cross", METRICS),
    (V + "image_distances.py", "(k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))", "k.mean()", METRICS),
    (
        V + "image_distances.py",
        "_covered(made, real, k), _covered(real, made, k)",
        "_covered(real, made, k), _covered(made, real, k)",
        METRICS,
    ),
    (V + "image_distances.py", "np.partition(d, k, axis=1)[:, k]", "np.partition(d, k - 1, axis=1)[:, k - 1]", METRICS),
    (V + "image_features.py", ".flip(1)", "", METRICS),
    (N + "unet2d.py", "F.pad(x, (0, 1, 0, 1))", "F.pad(x, (1, 0, 1, 0))", UNET),
    (N + "unet2d.py", "waves.roll(self.time_width // 2, -1)", "waves.flip(-1)", UNET),
    (N + "linear_unet2d.py", "k.softmax(dim=-2)", "k.softmax(dim=-1)", LINEAR),
    (N + "linear_unet2d.py", "(q.softmax(dim=-1) * q.shape[-1] ** -0.5)", "q.softmax(dim=-1)", LINEAR),
    (N + "linear_unet2d.py", "* self.gain * x.shape[1] ** 0.5", "* self.gain", LINEAR),
    (G + "diffusers_unet.py", 'for p in "qkv"]', 'for p in "kqv"]', FOREIGN),
    (G + "openai_diffusion.py", "value.unflatten(0, (count, 3, -1))", "value.unflatten(0, (3, count, -1)).transpose(0, 1)", FOREIGN),
    (G + "openai_diffusion.py", "1000.0 / steps if", "steps / 1000.0 if", FOREIGN),
    (G + "denoising_diffusion.py", '("x0", snr), ("v", snr / (1.0 + snr))', '("v", snr), ("x0", snr / (1.0 + snr))', FOREIGN),
    (D + "images.py", "pixels.flip(-1)", "pixels.flip(-2)", "tests/data/test_images.py"),
    (D + "image_sets.py", 'np.frombuffer(sizes, ">u4")', 'np.frombuffer(sizes, "<u4")', "tests/data/test_images.py"),
    (
        "training/ema.py",
        "self.weights[name].lerp_(value, 1.0 - decay)",
        "self.weights[name].lerp_(value, decay)",
        "tests/training/test_ema.py",
    ),
    (A + "realtime.py", "np.roll(self.chunks[rows], -s, axis=1)", "np.roll(self.chunks[rows], s, axis=1)", "tests/apps/test_realtime.py"),
    (A + "realtime.py", "most * alpha / sigma", "most * sigma / alpha", "tests/apps/test_realtime.py"),
    (A + "realtime.py", "c * expm1(c)", "expm1(c)", "tests/apps/test_realtime.py"),
    (A + "realtime.py", "self._episode[rows] += 1", "self._episode[rows] += 0", "tests/apps/test_realtime.py"),
    (
        A + "realtime.py",
        '0 if self.method == "wait" else self.delay\n            self',
        "self.delay\n            self",
        "tests/apps/test_realtime.py",
    ),
    (A + "policy_model.py", "(row >= 0) & (row < counts", "(row >= 0) & (row <= counts", "tests/apps/test_policy.py"),
    (A + "policy_model.py", "/ 127.5 - 1.0", "/ 127.5", "tests/apps/test_policy_training.py"),
    ("training/distillation.py", "(student(x_t, t).mean - end)", "(student(x_t, t).mean + end)", "tests/training/test_distillation.py"),
    (A + "policy_distillation.py", "times[places]", "times[1 + places]", "tests/apps/test_policy_distillation.py"),
    (S + "gaussian.py", "like(self.schedule.alpha(s), x_t) * end", "end", "tests/training/test_distillation.py"),
    (S + "noise.py", "manual_seed(seed + i)", "manual_seed(seed)", NOISE),
    (S + "noise.py", "x.shape[1:])\n    parts", "x.shape[1:])\n    generator = [generator[0]] * len(generator)\n    parts", NOISE),
    (S + "masked.py", "(logits, self.temperature, generator, open_)", "(logits, self.temperature, generator)", NOISE),
    (S + "masked.py", "_fallen(clock, hidden, generator, due)", "_fallen(clock, hidden, generator, hidden.any(1))", NOISE),
    (S + "masked.py", "(logits, self.temperature, generator, changing)", "(logits, self.temperature, generator)", NOISE),
]


def test_the_list_knows_the_code():
    """What is flipped stands in exactly one place, and the tests that must notice exist: moved code takes its line here along."""
    for file, before, after, tests in FLIPS:
        count = (ROOT / "src" / "unveil" / file).read_text().count(before)
        assert count == 1, f"{count} places of {file} hold {before!r}; update the list"
        assert before != after
        assert all((ROOT / test).exists() for test in tests.split()), tests


@pytest.mark.slow
@pytest.mark.parametrize(("file", "before", "after", "tests"), FLIPS, ids=[f"{f[0]}-{i}" for i, f in enumerate(FLIPS)])
def test_a_flip_is_noticed(file, before, after, tests, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    path = tmp_path / "src" / "unveil" / file
    path.write_text(path.read_text().replace(before, after))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "UNVEIL_UNCHECKED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 1, f"the tests did not notice:\n{done.stdout[-1500:]}"
