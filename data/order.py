"""The order of an epoch: a pseudo-random permutation that is computed place by place and takes no memory."""

import functools

import numpy as np
from jaxtyping import Int64, UInt64

ROUNDS = 8
"""Rounds of the permutation."""


def shuffled_places(
    seed: int, epochs: Int64[np.ndarray, " batch"], places: Int64[np.ndarray, " batch"], size: int
) -> Int64[np.ndarray, " batch"]:
    """`places` of [0, size) in the order of their epochs."""
    unique, which = np.unique(epochs, return_inverse=True)
    keys = np.stack([_round_keys(seed, epoch) for epoch in unique.tolist()])[which]
    return permuted(places, size, keys)


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int) -> UInt64[np.ndarray, " rounds"]:
    return np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)


def permuted(
    places: Int64[np.ndarray, " batch"], size: int, keys: UInt64[np.ndarray, "batch rounds"]
) -> Int64[np.ndarray, " batch"]:
    """Where a pseudo-random permutation of [0, size), named by its keys, takes each place; no memory grows with `size`.

    A Feistel network on the next power of four, walked along until it is back below `size` (Black & Rogaway, "Ciphers
    with Arbitrary Finite Domains", CT-RSA 2002). Each round's function is the finaliser of SplitMix64 (Steele et al.,
    "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    moved = places.astype(np.uint64)
    walking = np.arange(len(places))
    while len(walking):
        left, right = moved[walking] >> half, moved[walking] & mask
        for key in keys[walking].T:
            mixed = right + key
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & mask)
        moved[walking] = left << half | right
        walking = walking[moved[walking] >= size]
    return moved.astype(np.int64)
