"""Speed, compared in one run on one machine.

table           what was measured, as rows; ratios; Markdown
targets         what each row must reach, and what is said where it does not
subjects        the data, backbones and searches; every side gets the same
sides           tunesvc's workers, plain Optuna, Ray Tune: processes started, trials read back
limit           the same model's step on tensors that are in memory already
rows            one trial after the other: head only, last stage, everything
mixed           a whole study with every strategy, to plain Optuna's accuracy
gpu             what is asked of a GPU alone
report          RESULTS.md, and where the figures come from
storage         what a trial costs in the database; storage_side: a process that does so
history         studies of many trials, inserted in a second
wire            round trips, counted where they pass
search_quality  whether the fast search still finds as much
"""
