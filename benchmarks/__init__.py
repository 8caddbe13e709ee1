"""Speed, measured against baselines on the same machine in the same run: `make bench` (docs/bench.md)."""
