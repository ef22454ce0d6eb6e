"""Faults, made on purpose: real processes, real signals, a real Postgres.

toy       the work: a real study, small enough for a trial to last half a second
journal   every optimizer step of every worker on disk, so that repeated work can be counted
workers   worker processes: started, killed, stopped, replaced
ours      the toy study under tunesvc's workers       ┐ two sides of each comparison
plain     the same work under `study.optimize`        ┘
tally     what is left when all is over, counted
ground    a Postgres server of its own, and folders that vanish
rows      the faults, one function each
"""
