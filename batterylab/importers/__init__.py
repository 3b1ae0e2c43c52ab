"""Read other cyclers' files into recordings, each checked against itself before it is stored.

One small module a vendor (`neware`, `arbin`, `maccor`, `biologic`, `novonix`, `bdf`, `named`,
`labview`) hands over plain columns; `registry` finds the module, `counters` brings the file's own
counts into one form, `checks` holds the current, clock, signs and cycle numbers against them,
`steps` finds the steps, `build` makes the recording, `duplicates` finds doubles and `store`
brings it into an archive. `featuretable` does the same for tables of features.

Readers under the GPL are never imported here: `gpl_reader` is a program that `biologic` runs.
"""
