"""Run the command line as ``python -m batterylab``."""

from batterylab.cli import main

if __name__ == "__main__":
    main()
