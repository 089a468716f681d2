"The command `inception-repro`, as `python -m inception_repro`"
from .cli import main

if __name__ == "__main__": main()
