"""`unveil eval text`: likelihood and samples, beside their references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.text.recipes.sample import SCORES

if TYPE_CHECKING:
    from unveil.runs.progress import Progress
    from unveil.text.recipes.config import EvalText


def evaluate_text(config: EvalText, progress: Progress) -> dict[str, Any]:
    """Score text; returns metrics."""
    import json

    import torch

    from unveil.errors import UnveilError
    from unveil.files.atomic import check_output, output
    from unveil.files.places import found as files_found
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.text.data.documents import is_prepared, pack, read_documents, split_documents
    from unveil.text.evaluation.metrics import text_metrics, token_scores
    from unveil.text.likelihood import is_exact
    from unveil.text.recipes.data import prepared_text
    from unveil.text.recipes.load import load_text_model, read_text_config
    from unveil.text.weights.llada import is_llada

    for name, least in (("draws", 1), ("pieces", 0), ("limit", 0), ("batch_size", 1), ("threads", 0)):
        if getattr(config, name) < least:
            raise ValueError(
                f"--{name.replace('_', '-')} must be at least {least}, got {getattr(config, name)}"
            )
    if config.times == "antithetic" and config.draws % 2:
        raise ValueError(f"--times antithetic draws pairs; --draws must be even, got {config.draws}")
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.scores is not None:
        check_output(config.scores, SCORES)
    foreign = is_llada(Path(config.checkpoint))
    if foreign and config.data is None and not config.tasks:
        raise UnveilError(
            f"{config.checkpoint}: other people's weights do not say where their data are; give --data FILE"
        )
    model = load_text_model(config.checkpoint, config.device, adapter=config.adapter)
    if config.tasks:
        from unveil.text.evaluation.harness import harness_metrics

        tasks = [task.strip() for task in config.tasks.split(",")]
        metrics = harness_metrics(
            model, tasks, config.limit, draws=config.draws, batch=config.batch_size, seed=config.seed
        )
        return {"metrics": metrics, "protocol": f"lm-evaluation-harness, {config.draws} draws a likelihood"}
    if config.data is not None:
        what, stream = (
            config.data,
            pack(read_documents(config.data, config.field, config.encoding), model.tokens),
        )
    else:
        trained = read_text_config(find_checkpoint(config.checkpoint))
        if "data" not in trained:
            raise UnveilError("packaged weights do not say where their data are; give --data FILE")
        if trained.get("sft"):
            raise UnveilError(
                "this model was fine-tuned on instructions, of which none are held out; give --data FILE"
            )
        what, encoding = (
            f"the last {trained['hold_out']:.0%} of {trained['data']}",
            trained.get("encoding", "utf-8"),
        )
        if is_prepared(files_found(Path(trained["data"]))):
            prepared = prepared_text(trained["data"], trained["field"], trained["hold_out"], encoding)
            if prepared.tokens.written() != model.tokens.written():
                raise UnveilError(
                    f"{trained['data']} was prepared anew since, with another tokenizer; give --data FILE"
                )
            stream = prepared.held
        else:
            held = split_documents(
                read_documents(trained["data"], trained["field"], encoding), trained["hold_out"]
            )[1]
            stream = pack(held, model.tokens)
        if not len(stream):
            raise UnveilError("nothing was held out of this model's data; give --data FILE")
    metrics = text_metrics(
        model,
        stream,
        config.draws,
        config.seed,
        config.pieces,
        config.batch_size,
        lambda done, total: progress("scoring", done, total, {}),
        form=config.form,
        times=config.times,
    )
    if config.scores is not None:
        with output(config.scores, SCORES) as partial, open(partial, "w", encoding="utf-8") as handle:
            for line in token_scores(
                model, stream, config.pieces, lambda done, total: progress("tokens", done, total, {})
            ):
                handle.write(json.dumps(line) + "\n")
    if is_exact(model) and config.form == "l":
        return {"metrics": metrics, "protocol": f"exactly, pieces of {model.shape.context} tokens, on {what}"}
    return {
        "metrics": metrics,
        "protocol": f"bound by {config.draws} draws a piece of {model.shape.context} tokens, on {what}",
    }
