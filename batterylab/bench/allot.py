"""Which cell goes to which channel: at random within blocks, balanced over supplier and lot.

Channels of a block share a cycler module and a chamber shelf. If one supplier's cells all sat
on the warm shelf, its spread and mean would be the shelf's.
"""

from collections.abc import Sequence

import numpy as np

from batterylab.bench.benchfile import ChannelEntry
from batterylab.cells import Cell
from batterylab.errors import BatterylabError


def allot(
    cells: Sequence[Cell], channels: Sequence[ChannelEntry], seed: int
) -> dict[str, str]:
    """Allot cells to channels.

    Parameters
    ----------
    cells : sequence of Cell
        At most as many as there are channels.
    channels : sequence of ChannelEntry
        The free ones.
    seed : int
        Of the random order; recorded with the allotment.

    Returns
    -------
    dict of str to str
        Serial by channel name, in the order of the channels. Each lot's cells are spread over
        the blocks in proportion to the blocks' sizes, as evenly as whole cells allow.

    Raises
    ------
    BatterylabError
        If there are more cells than channels.
    """
    if len(cells) > len(channels):
        raise BatterylabError(
            f"{len(cells)} cells for {len(channels)} free channels",
            hint="load some now and the others in a second run",
        )
    draw = np.random.default_rng(seed)
    seats = _seats_in_turn(channels, len(cells), draw)
    queue = _lots_in_turn(cells, draw)
    by_channel = {seat.name: cell.serial for seat, cell in zip(seats, queue, strict=True)}
    return {c.name: by_channel[c.name] for c in channels if c.name in by_channel}


def _lots_in_turn(cells: Sequence[Cell], draw: np.random.Generator) -> list[Cell]:
    """Return the cells lot by lot, in random order within each lot."""
    lots: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        lots.setdefault((cell.supplier, cell.lot), []).append(cell)
    keys = list(lots)
    queue: list[Cell] = []
    for k in draw.permutation(len(keys)):
        lot = lots[keys[k]]
        queue += [lot[i] for i in draw.permutation(len(lot))]
    return queue


def _seats_in_turn(
    channels: Sequence[ChannelEntry], count: int, draw: np.random.Generator
) -> list[ChannelEntry]:
    """Return channels so that any stretch of them is spread over the blocks by their size."""
    blocks: dict[str, list[ChannelEntry]] = {}
    for channel in channels:
        blocks.setdefault(channel.block, []).append(channel)
    keyed: list[tuple[float, int, ChannelEntry]] = []
    for b, block in enumerate(blocks.values()):
        order = draw.permutation(len(block))
        shift = draw.random()
        keyed += [((k + shift) / len(block), b, block[i]) for k, i in enumerate(order)]
    return [channel for _, _, channel in sorted(keyed, key=lambda item: item[:2])][:count]


def gauge_rounds(
    serials: Sequence[str], channels: Sequence[str], repeats: int
) -> list[dict[str, str]]:
    """Return the rounds of a gauge study: every cell on every channel, `repeats` times.

    Parameters
    ----------
    serials, channels : sequence of str
        At least two of each.
    repeats : int
        How often each pair meets.

    Returns
    -------
    list of dict
        Of each round, the serial by channel: a rotation in which no cell is wanted twice at
        once. Repeats are separated by all other pairs, so that they are real ones.
    """
    rounds: list[dict[str, str]] = []
    n, m = len(serials), len(channels)
    for _ in range(repeats):
        if n >= m:
            rounds += [
                {channel: serials[(k + shift) % n] for k, channel in enumerate(channels)}
                for shift in range(n)
            ]
        else:
            rounds += [
                {channels[(k + shift) % m]: serial for k, serial in enumerate(serials)}
                for shift in range(m)
            ]
    return rounds
