"""The simulated bench: cells with a known truth behind instruments that answer as real ones do.

`cell` integrates the cells, `population` draws them, the servers speak for the instruments,
`control` owns the clock, and `process` runs all of it beside the program under test. Nothing
here is imported by drivers, runner or fits.
"""
