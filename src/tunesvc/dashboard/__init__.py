"""optuna-dashboard and our pages: on this machine's own address, or behind a login.

    /                  optuna-dashboard            /report            the studies that have a report
    /api/…             its data                    /report/STUDY      that report
    /login, /logout    for people                  /status            studies, workers, last errors
    /healthz, /readyz  for machines, open          /metrics           for Prometheus

    listening   where, and whether with a login         guard     who may ask what
    users       the file of those who may enter         changes   what may be changed, and when
    roster      that file as it is now                  pages     which page a path means
    login       in and out: sessions, attempts          serving   the process

Why: 2026-11: optuna-dashboard has no login, and whoever reaches its port may delete studies.
Without a users file it therefore listens on this machine's own address and nowhere else.
"""

from tunesvc.dashboard.ports import HOST, checked_port, free_port

__all__ = ["HOST", "checked_port", "free_port"]  # `serving` imports what draws: a second or two
