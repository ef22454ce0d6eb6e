"""What a study found, for people: a page, a text, JSON.

evidence   a study's trials and what else is known; each measure taken once
sections   the one list of what a report consists of: measure → sentence, table, picture
sentences  the answer in three sentences       advice   tune these, leave those
document   all of it as plain data             rendering  … as HTML and Markdown
kept       … kept until more trials have ended
posting    … where people look who watch a study in optuna-dashboard
summaries  … posted when a study is done, by whoever ran it
"""

from tunesvc.report.document import Advice, Report, Table, Told
from tunesvc.report.kept import beside, page, told
from tunesvc.report.rendering import PLOTLY, drawing_library, html, markdown
from tunesvc.report.summaries import Summaries

__all__ = [
    "PLOTLY",
    "Advice",
    "Report",
    "Summaries",
    "Table",
    "Told",
    "beside",
    "drawing_library",
    "html",
    "markdown",
    "page",
    "told",
]
