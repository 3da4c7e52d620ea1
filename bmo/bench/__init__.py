r"""The benchmark: hypergradients of this package timed beside those of its peers.

* :mod:`bmo.bench.problems`: P1 (smooth) and P2 (nonsmooth); their plain forward is the clock.
* :mod:`bmo.bench.aggregated`: P3, Algorithm 1 itself on both.
* :mod:`bmo.bench.references`: the exact hypergradients, by hand.
* :mod:`bmo.bench.measure`: CPU time in interleaved rounds, and peak memory to the byte.
* :mod:`bmo.bench.methods`: the registry; :mod:`bmo.bench.ours` and :mod:`bmo.bench.plain` enter
  our methods and plain torch, a folder of adapters enters the peers.
* :mod:`bmo.bench.products`, :mod:`bmo.bench.ways`: the matrix products of P2 alone, and the four
  ways that are held against them; :mod:`bmo.bench.device`: clock, graphs and compiler of a device;
  :mod:`bmo.bench.against`: the sizes, and the record of a GPU.
* :mod:`bmo.bench.run`, :mod:`bmo.bench.report`, :mod:`bmo.bench.command`: cases, tables, record.
"""
