"""`unveil eval text`: a bound on the negative log-likelihood, or tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.atomic import check_output, output
from unveil.runs.checkpoints import find_checkpoint, local_name
from unveil.runs.progress import Progress
from unveil.text.data.documents import Stream, pack, read_documents
from unveil.text.data.tokens import Tokens
from unveil.text.evaluation.harness import harness_metrics
from unveil.text.evaluation.metrics import text_metrics, token_scores
from unveil.text.likelihood import is_exact
from unveil.text.recipes.config import EvalText, TextFiles
from unveil.text.recipes.data import stream_for
from unveil.text.recipes.load import load_with, read_text_config
from unveil.text.weights.llada import is_llada

SCORES = '{"tokens": ['  # beginning of every file of --scores


def evaluate_text(config: EvalText, progress: Progress) -> dict[str, object]:
    """Score text; returns metrics and how they were computed."""
    if config.scores is not None:
        check_output(config.scores, SCORES)
    if config.data is None and not config.tasks and is_llada(Path(local_name(config.model.checkpoint))):
        raise UnveilError(
            f"{config.model.checkpoint}: third-party weights do not say where their data are; give "
            "`data=FILE`"
        )
    model, seed, batch = load_with(config.model, config.job), config.job.seed, config.batch_size
    if config.tasks:
        tasks = [task.strip() for task in config.tasks.split(",")]
        metrics = harness_metrics(model, tasks, config.limit, draws=config.draws, batch=batch, seed=seed)
        return {"metrics": metrics, "protocol": f"lm-evaluation-harness, {config.draws} draws per likelihood"}
    stream, name = _scored(config, model.tokens)
    metrics = text_metrics(
        model,
        stream,
        config.draws,
        seed,
        config.pieces,
        batch,
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
    exact = is_exact(model) and config.form == "l"
    how = "exactly," if exact else f"bound by {config.draws} draws per piece, of"
    return {"metrics": metrics, "protocol": f"{how} pieces of {model.shape.context} tokens, on {name}"}


def _scored(config: EvalText, tokens: Tokens) -> tuple[Stream, str]:
    """The text to score, `data` or the held-out part of the model's own data, and what it is called.

    Raises:
        UnveilError: nothing was held out, or the model does not say of what.
    """
    if config.data is not None:
        documents = read_documents(config.data, config.files.field, config.files.encoding)
        return pack(documents, tokens), config.data
    trained = read_text_config(find_checkpoint(config.model.checkpoint))
    if "data" not in trained:
        raise UnveilError("packaged weights do not say where their data are; give `data=FILE`")
    if trained.get("sft"):
        raise UnveilError(
            "this model was fine-tuned on instructions, of which none are held out; give `data=FILE`"
        )
    files = TextFiles(trained["field"], trained.get("encoding", "utf-8"))
    stream = stream_for(tokens, trained["data"], files, trained["hold_out"], held=True)
    if not len(stream):
        raise UnveilError("nothing was held out of this model's data; give `data=FILE`")
    return stream, f"the last {trained['hold_out']:.0%} of {trained['data']}"
