"""What a report consists of, in its order: the one list that page, text and JSON are made from.

To add a section, add an entry: what it is called, what it tells, the measure, and how its result
becomes a sentence, a table and (where there is one) a picture.
"""

from __future__ import annotations

from functools import partial

from tunesvc.analysis.pareto import Cost
from tunesvc.report import winner
from tunesvc.report.evidence import Evidence
from tunesvc.report.figures import (
    confirmation,
    cost,
    curves,
    expected,
    importance,
    parallel,
    pareto,
    predictors,
    pruning,
    robustness,
    strategies,
    timeline,
    tunability,
)
from tunesvc.report.section import Section, of_trials, plain


def _cost(which: Cost, title: str, tells: str) -> Section:
    return Section(
        f"cost-{which.replace('_', '-')}",
        title,
        f"{tells} A ring marks the Pareto set: trials that no other one beats in both at once.",
        partial(Evidence.frontier, cost=which),
        of_trials(cost.says),
        plain(cost.table),
        of_trials(cost.figure),
    )


SECTIONS: tuple[Section, ...] = (
    Section(
        "best",
        "The best configuration",
        "Every knob that acts in it, tuned or not, beside the default of its backbone.",
        winner.measure,
        plain(winner.says),
        plain(winner.table),
    ),
    Section(
        "pareto",
        "The Pareto set",
        "The trials that no other one beats in all at once: in the objective and in what it is "
        "weighed against. To choose by any other cap: tunesvc best STUDY --where.",
        Evidence.pareto,
        of_trials(pareto.says),
        plain(pareto.table),
        of_trials(pareto.figure),
    ),
    Section(
        "importance",
        "Which knobs matter",
        "How much of what varies between trials each knob explains (functional ANOVA), with 90 % "
        "intervals. The red stroke is what a knob without any effect would reach by chance; bars "
        "that do not clear it are grey. A knob of one branch is judged among that branch's trials.",
        Evidence.importance,
        plain(importance.says),
        plain(importance.table),
        plain(importance.figure),
    ),
    Section(
        "interactions",
        "Which knobs act together",
        "What two knobs explain together beyond what each explains alone: pairs that clear the "
        "red stroke have to be tuned together. With few trials a pair's share is drawn towards "
        "nothing: that none clears the stroke does not show that there is none.",
        Evidence.pairs,
        plain(importance.pair_says),
        plain(importance.pair_table),
        plain(importance.pair_figure),
    ),
    Section(
        "tunability",
        "What tuning buys each backbone",
        "The gain of the best configuration over the untuned one. The square is the difference of "
        "two trials and optimistic, for the best of many is partly luck; the dot with its 90 % "
        "interval is what the surface fitted through all trials makes of it.",
        Evidence.tunability,
        of_trials(tunability.says),
        plain(tunability.table),
        of_trials(tunability.figure),
    ),
    Section(
        "knobs",
        "What each knob buys",
        "For the backbone that gains most: the bar is what tuning this knob alone buys over the "
        "default; the square is what leaving it at its default loses, all else at the best.",
        Evidence.knobs,
        of_trials(tunability.knob_says),
        plain(tunability.knob_table),
        of_trials(tunability.knob_figure),
    ),
    Section(
        "path",
        "From the default to the best, step by step",
        "One knob at a time is set from its default to its best value, each time the one that is "
        "predicted to gain most. Steps that were really run show what they measured.",
        Evidence.path,
        of_trials(tunability.path_says),
        of_trials(tunability.path_table),
        of_trials(tunability.path_figure),
    ),
    Section(
        "sensitivity",
        "How sensitive the result is",
        "What is expected at each value of a knob, averaged over all others, with its 90 % "
        "interval. Flat means: it does not matter there.",
        Evidence.sensitivity,
        of_trials(robustness.curves_says),
        plain(robustness.curves_table),
        of_trials(robustness.curves_figure),
        wide=True,
    ),
    Section(
        "ranges",
        "Safe ranges",
        "Where a knob may lie, all others at the best configuration, for at most so much lost. "
        "Surely safe: between the inner ends of the 90 % intervals of both ends. Likely safe: by "
        "the fitted surface itself.",
        Evidence.safe_ranges,
        plain(robustness.ranges_says),
        plain(robustness.ranges_table),
    ),
    Section(
        "robustness",
        "How forgiving each backbone is",
        "The share of a backbone's whole space that comes within so many points of its own best: "
        "the larger, the less it matters what one chooses.",
        Evidence.robustness,
        plain(robustness.says),
        plain(robustness.table),
        plain(robustness.figure),
    ),
    Section(
        "strategies",
        "Backbone × strategy",
        "The best finished trial of each combination, and how many trials it had.",
        Evidence.strategies,
        of_trials(strategies.says),
        plain(strategies.table),
        of_trials(strategies.figure),
        wide=True,
    ),
    Section(
        "fine-tuning",
        "Fine-tuning against training from scratch",
        "What starting from pretrained weights gains over a random start, by architecture.",
        Evidence.fine_tuning,
        of_trials(strategies.gain_says),
        plain(strategies.gain_table),
        of_trials(strategies.gain_figure),
    ),
    _cost(
        "seconds", "Objective against time", "Each finished trial: what it reached, and how long."
    ),
    _cost("parameters", "Objective against size", "Each finished trial against its parameters."),
    _cost("gflops", "Objective against operations", "Against what one image's forward pass takes."),
    _cost("size_mb", "Objective against file size", "Against the length of the model's file."),
    _cost("latency_ms", "Objective against latency", "Against the time that one image takes."),
    _cost("memory_mb", "Objective against memory", "Against the peak of memory while training."),
    Section(
        "spending",
        "What the hours bought",
        "The best so far against the training time spent on all trials together.",
        Evidence.spending,
        of_trials(cost.spending_says),
        plain(cost.spending_table),
        of_trials(cost.spending_figure),
    ),
    Section(
        "spending-backbones",
        "What an hour bought each backbone",
        "The gain of each backbone's best over its own untuned configuration, by the training time "
        "of all its trials. The best of many is partly luck, so these are optimistic.",
        Evidence.spending_by_backbone,
        of_trials(cost.backbones_says),
        of_trials(cost.backbones_table),
    ),
    Section(
        "expected",
        "How many trials are worth it",
        "The best value to expect after so many random trials, from the random part of the search.",
        Evidence.expected_best,
        plain(expected.says),
        plain(expected.table),
        of_trials(expected.figure),
    ),
    Section(
        "confirmation",
        "Confirmation",
        "The best configurations run again with new seeds: the grey stroke is what the search had "
        "promised; a worse mean shows how much of that was luck. The test split is used once.",
        Evidence.confirmation,
        plain(confirmation.says),
        plain(confirmation.table),
        plain(confirmation.figure),
    ),
    Section(
        "curves",
        "Learning curves",
        "The objective after each epoch; a cross is where the pruner ended a trial.",
        Evidence.curves,
        plain(curves.says),
        plain(curves.table),
        plain(curves.figure),
    ),
    Section(
        "parallel",
        "All knobs at once",
        "One line a finished trial, across all knobs: where the best lines bundle, the knob is "
        "decided.",
        Evidence.parallel,
        plain(parallel.says),
        plain(parallel.table),
        plain(parallel.figure),
        wide=True,
    ),
    Section(
        "pruning",
        "Was pruning right",
        "How well the ranking after an epoch foretells the final one (1: perfectly, 0: not at "
        "all). Control trials run to the end whatever the pruner says.",
        Evidence.pruning,
        of_trials(pruning.says),
        plain(pruning.table),
        plain(pruning.figure),
    ),
    Section(
        "predictors",
        "What could have been known before",
        "How well cheap predictors of a backbone (linear probe, LogME, H-score, ImageNet top-1) "
        "rank the backbones as fine-tuning did.",
        Evidence.predictors,
        of_trials(predictors.says),
        plain(predictors.table),
        plain(predictors.figure),
    ),
    Section(
        "pretraining",
        "Pretraining against fine-tuning",
        "Snapshots of one pretraining run: whether the better pretrained one fine-tunes better.",
        Evidence.pretraining,
        plain(predictors.pretraining_says),
        plain(predictors.pretraining_table),
        of_trials(predictors.pretraining_figure),
    ),
    Section(
        "timeline",
        "What ran when",
        "Each worker's trials from beginning to end.",
        Evidence.timeline,
        plain(timeline.says),
        plain(timeline.table),
        plain(timeline.figure),
        wide=True,
    ),
)
