"""From a trial of a study to a folder that one can use.

choose      which trial
trained     its model: as it was kept, or trained anew
soup        or the mean of several
scored      what it is worth
forms       in which other forms it is written, and whether they agree
story, card what is told of it
making      the folder
"""

from tunesvc.export.making import Written, export
from tunesvc.export.wish import Refit, Wish

__all__ = ["Refit", "Wish", "Written", "export"]
