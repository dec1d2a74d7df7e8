"""``python -m oms_trio`` is ``oms-trio``."""

from oms_trio.cli import main

if __name__ == "__main__":
    main()
