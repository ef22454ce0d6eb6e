"""One process, one device: lease a trial, run it, next.

serving    the loop: until all is done, for ever, or until a signal comes
shift      the trials of one worker: claimed, run, drawn ahead
served     which studies it serves, and what is due when one of them is done

A stop signal (see `interrupt`) ends the batch under way, keeps its state and gives the trial back;
it goes on in the next worker that asks.
"""

from tunesvc.worker.serving import serve

__all__ = ["serve"]
