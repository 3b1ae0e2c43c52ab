"""The bench: loading, running and recording, with the cells' safety first. Linux only."""
