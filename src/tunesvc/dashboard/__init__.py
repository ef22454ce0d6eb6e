"""optuna-dashboard and our reports on this machine's own address.

    /                  optuna-dashboard            /report            the studies that have a report
    /api/…             its data                    /report/STUDY      that report

Why: 2026-11: it has no login, and whoever reaches its port may delete studies. It therefore
listens on 127.0.0.1 and nowhere else until the service has a login of its own.
"""

from tunesvc.dashboard.ports import HOST, checked_port, free_port

__all__ = ["HOST", "checked_port", "free_port"]  # `serving` imports what draws: a second or two
