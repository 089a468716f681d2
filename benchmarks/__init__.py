"Other people's networks, engines and loaders beside ours: `python -m benchmarks.run --help`"
