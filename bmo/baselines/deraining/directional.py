def directional(x): return x
