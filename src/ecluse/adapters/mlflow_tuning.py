"""A search as MLflow shows it: what is said of it and of each trial, as plain values. Pure, without MLflow itself."""

from __future__ import annotations

from ecluse.adapters.mlflow_words import MAX_VALUE, plain_name
from ecluse.core.tuning import Trial, Tuning

STUDY, TRIAL = "ecluse.tuning", "ecluse.trial"
PARENT = "mlflow.parentRunId"


def search_tags(tuning: Tuning) -> dict[str, str]:
    """Of the run that holds the trials."""
    question = tuning.question
    return {
        STUDY: tuning.study,
        "ecluse.model": question.model,
        "ecluse.dataset": question.dataset,
        "ecluse.metric": question.metric,
        "mlflow.source.name": "ecluse tune",
        "mlflow.source.type": "PROJECT",
    }


def search_values(tuning: Tuning) -> tuple[dict[str, str], dict[str, float]]:
    """The best trial's parameters and score, and how many trials there are."""
    counts = {"trials": float(len(tuning.trials))}
    if tuning.best is None:
        return {}, counts
    best = tuning.trial(tuning.best)
    parameters, metrics = trial_values(tuning, best)
    return parameters, metrics | counts | {"best_trial": float(best.number)}


def trial_tags(tuning: Tuning, trial: Trial, parent: str) -> dict[str, str]:
    """Of one nested run."""
    tags = {PARENT: parent, STUDY: tuning.study, TRIAL: str(trial.number), "ecluse.state": trial.state}
    return tags | ({"ecluse.why": trial.why[:MAX_VALUE]} if trial.why else {})


def trial_values(tuning: Tuning, trial: Trial) -> tuple[dict[str, str], dict[str, float]]:
    """Parameters as text; the score under the metric's name and that of each fold.

    >>> from ecluse.core.tuning import Question
    >>> from datetime import UTC, datetime
    >>> asked = Question("churn", "roc_auc", True, "d", "c", "f", 2, 0, {}, {})
    >>> one = Trial(3, {"leaves": 31}, (0.5, 0.7))
    >>> trial_values(Tuning("churn-1", asked, (one,), 3, datetime(2024, 1, 31, tzinfo=UTC)), one)
    ({'leaves': '31'}, {'roc_auc_fold_1': 0.5, 'roc_auc_fold_2': 0.7, 'roc_auc': 0.6})
    """
    metric = plain_name(tuning.question.metric)
    parameters = {plain_name(name): str(value)[:MAX_VALUE] for name, value in trial.parameters.items()}
    metrics = {f"{metric}_fold_{fold}": score for fold, score in enumerate(trial.scores, 1)}
    if trial.score is not None:
        metrics[metric] = trial.score
    return parameters, metrics
