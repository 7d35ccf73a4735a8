"""`python -m benchmarks.generalization`."""

from .cli import main

if __name__ == "__main__":
    main()
