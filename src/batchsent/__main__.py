"""``python -m batchsent`` and the ``batchsent`` command."""

from batchsent.cli import main

if __name__ == "__main__":
    main()
