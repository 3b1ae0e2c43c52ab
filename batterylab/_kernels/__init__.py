"""Compiled kernels, built from ``ext/``. They check nothing: the modules that call them do."""
