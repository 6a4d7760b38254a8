"""Cycle model of the whole machine: every unit in every cycle, without arithmetic.

It walks the programs and the gather plans of a compiled image with the accesses, survivors and
hits that the golden model finds (:mod:`sw_model.cycles.access`), in the structure that
docs/architecture.md describes. Its constants are depths and latencies of that structure; nothing
is fitted. Compiled with Numba, which the extra ``bench`` installs.
"""
