"""Money over HTTP: one module per topic, its shapes beside it."""
