"""Plain TPE against cost-aware TPE at equal seconds.

spaces          what is searched: real images, real weights, strategies from dear to cheap
running         studies run by real workers, their trials read back
table           a few hundred configurations run once, and kept
replay          both samplers on that table, in simulated seconds
curves          the best value so far over seconds, and what two samplers differ by
page            docs/cost-aware.md and its picture
"""
