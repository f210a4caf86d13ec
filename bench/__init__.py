"""The benchmarks: `python -m bench` times latentcore against its peers, interleaved, and writes RESULTS.md."""
