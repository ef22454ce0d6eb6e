"""A trained model as a folder: written, loaded, used, measured, and trained again."""

from tunesvc.exported import paths, picture, training
from tunesvc.exported.answers import Prediction, Scores, answers, probabilities
from tunesvc.exported.compared import Compared, EpochCompared, Reproduction
from tunesvc.exported.description import FORMAT, Description, describe, rebuild
from tunesvc.exported.evaluate import evaluate, of_items
from tunesvc.exported.folder import Folder, Start, check_place, read, write
from tunesvc.exported.measure import Evaluation, Measured, measure
from tunesvc.exported.model import Model, Picture, load, opened
from tunesvc.exported.record import Noise, Record, TrainingRun
from tunesvc.exported.reproduce import reproduce
from tunesvc.exported.training import average

__all__ = ["FORMAT", "Compared", "Description", "EpochCompared", "Evaluation", "Folder"]
__all__ += ["Measured", "Model", "Noise"]
__all__ += ["Picture", "Prediction", "Record", "Reproduction", "Scores", "Start", "TrainingRun"]
__all__ += ["answers", "average", "check_place", "describe", "evaluate", "load", "measure"]
__all__ += [
    "of_items",
    "opened",
    "paths",
    "picture",
    "probabilities",
    "read",
    "rebuild",
    "reproduce",
]
__all__ += ["training", "write"]
