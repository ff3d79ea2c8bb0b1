"""The two uniform numbers of a draw, f(seed, choice, position), with Threefry-2x32 written out.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), and
the key derivation that JAX documents for its `threefry2x32` generator.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
Words = tuple[int, int]


def threefry2x32(key: Words, counter: Words) -> Words:
    """Twenty rounds of Threefry on two 32-bit words."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x0, x1 = (counter[0] + keys[0]) & MASK, (counter[1] + keys[1]) & MASK
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x0 = (x0 + x1) & MASK
            x1 = ((x1 << turn) | (x1 >> (32 - turn))) & MASK
            x1 ^= x0
        x0 = (x0 + keys[(group + 1) % 3]) & MASK
        x1 = (x1 + keys[(group + 2) % 3] + group + 1) & MASK
    return x0, x1


def fold_in(key: Words, number: int) -> Words:
    """A new key from a key and a 32-bit number."""
    return threefry2x32(key, (0, number & MASK))


def key_of(seed: int) -> Words:
    """High and low word of the two's-complement 64-bit seed."""
    return (seed >> 32) & MASK, seed & MASK


def uniforms(seed: int, choice: int, position: int) -> tuple[float, float]:
    """`(u_block, u_token)`, multiples of 2**-24 in [0, 1), for one position of a candidate.

    The words are `jax.random.bits(key, (2,))`: element i is the xor of both words of
    `threefry2x32(key, (0, i))`.
    """
    key = fold_in(fold_in(key_of(seed), choice), position)
    words = [threefry2x32(key, (0, element)) for element in range(2)]
    u_block, u_token = (((high ^ low) >> 8) * 2.0**-24 for high, low in words)
    return u_block, u_token
