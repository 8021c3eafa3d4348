"""Support vector regression's dual, solved as libsvm solves it, in loops compiled by numba.

    min over β of  ½ βᵀKβ − yᵀβ + ε Σ|β|   with  Σβ = 0  and  −C ≤ β ≤ C

Pairs of coefficients are chosen by second-order information (Fan, Chen and Lin 2005, libsvm's WSS 2) and
moved as libsvm moves them, so iterates, and what a limit of iterations leaves, are libsvm's to rounding. What
is quicker: one coefficient a row in place of libsvm's two (α, α*), whole kernel rows at hand, loops
over them that the processor's vector units take, and rows that are settled at a bound are left out of the
matrix itself (libsvm's shrinking, with the rest moved together).

Belongs here: the solver. Not here: kernels and what is fitted (`svr.py`). Imported in functions only, where
numba is installed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NEVER = 1e30
"""Stands for infinity, which the compiled loops do not know."""
BLOCK = 256
"""Rows looked at together: the best of each block is found by vector units, its place only in the best."""
SMALLEST = 1e-12
"""libsvm's TAU: the curvature along a pair, where the kernel gives none."""
KEPT = 0.7
"""The matrix is made smaller once at most this share of its rows is left."""

_compiled: Any = numba.njit(
    nogil=True, cache=True, boundscheck=False, fastmath={"reassoc", "nsz", "contract", "arcp"}
)


def solve(
    kernel: npt.NDArray[np.float32], target: Floats, c: float, epsilon: float, tolerance: float, limit: int
) -> tuple[Floats, float, int, bool]:
    """β (n,), the constant, iterations, and whether the duality conditions hold within `tolerance`.

    Args:
        kernel: (n, n), symmetric; it need not be positive. target: (n,). limit: of iterations.

    Releases the interpreter's lock. Memory beside the kernel: at most 2 bytes × n².
    """
    n = len(target)
    beta, left = np.zeros(n), target.copy()
    active, part = np.arange(n), kernel
    spent = 0
    while True:
        here, there = beta[active], left[active]
        diagonal = np.ascontiguousarray(part.diagonal())
        most = min(max(n, 1000), limit - spent)
        high, low, steps, done = _steps(part, diagonal, here, there, c, epsilon, tolerance, most)
        spent += steps
        beta[active], left[active] = here, there
        whole = len(active) == n
        if (done and whole) or spent >= limit:
            break
        if done:  # on what is left; whether on all is seen next
            left = _residual(kernel, target, beta)
            active, part = np.arange(n), kernel
            continue
        unsettled = _unsettled(here, there, c, epsilon, high, low)
        if unsettled.sum() <= KEPT * len(active):
            active = active[unsettled]
            part = _square(kernel, active)
    if not whole:
        left = _residual(kernel, target, beta)
    return beta, _constant(beta, left, c, epsilon), spent, bool(done and whole)


def fill(
    values: npt.NDArray[np.float32],
    dots: npt.NDArray[Any],
    squares: npt.NDArray[np.int64],
    distances: bool,
) -> npt.NDArray[np.float32]:
    """values[dots], or values[squared distances], of all pairs of training rows. (n, n)."""
    made = np.empty(dots.shape, dtype=np.float32)
    _fill(values, dots, squares, distances, made)
    return made


def weighted_sums(
    values: Floats,
    dots: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    squares: npt.NDArray[np.int64],
    distances: bool,
    beta: Floats,
) -> Floats:
    """Σ_j β_j k(row, j) of each row (m,), its dots (m, n) and squares `rows` (m,)."""
    used = np.flatnonzero(beta)
    return np.asarray(_sums(values, dots, rows, squares, distances, beta[used], used))


@_compiled
def _steps(kernel, diagonal, beta, left, c, epsilon, tolerance, most):  # type: ignore[no-untyped-def]
    """Up to `most` steps on `beta` and `left` = y − Kβ in place; highest, lowest, steps, whether done.

    `up` and `low` turn `left` into −y∇ of the half that may grow, or shrink: −ε or ε, ∓NEVER at a bound.
    """
    n = len(left)
    up, low = np.empty(n), np.empty(n)
    for t in range(n):
        up[t] = -NEVER if beta[t] >= c else (epsilon if beta[t] < 0 else -epsilon)
        low[t] = NEVER if beta[t] <= -c else (-epsilon if beta[t] > 0 else epsilon)
    row_i, row_j, moved = kernel[0], kernel[0], 0.0
    steps, done = 0, False
    while True:
        high, lowest, block = -NEVER, NEVER, 0
        for start in range(0, n, BLOCK):
            best, worst = -NEVER, NEVER
            for t in range(start, min(n, start + BLOCK)):
                value = left[t] - moved * (row_i[t] - row_j[t])
                left[t] = value
                best = max(best, value + up[t])
                worst = min(worst, value + low[t])
            lowest = min(lowest, worst)
            if best >= high:
                high, block = best, start
        if high - lowest < tolerance:
            done = True
            break
        if steps >= most:
            break
        i = block
        for t in range(block, min(n, block + BLOCK)):
            if left[t] + up[t] >= left[i] + up[i]:
                i = t
        row_i, own = kernel[i], diagonal[i]
        most_gained, block = np.float32(-1), 0
        for start in range(0, n, BLOCK):
            best_gain = np.float32(-1)
            for t in range(start, min(n, start + BLOCK)):
                slope = max(np.float32(high - (left[t] + low[t])), np.float32(0))
                curve = max(own + diagonal[t] - np.float32(2) * row_i[t], np.float32(SMALLEST))
                best_gain = max(best_gain, slope * slope / curve)
            if best_gain >= most_gained:
                most_gained, block = best_gain, start
        j, gained = -1, -1.0
        for t in range(block, min(n, block + BLOCK)):
            slope_t = high - (left[t] + low[t])
            if slope_t > 0:
                curve_t = max(np.float64(own) + diagonal[t] - 2.0 * row_i[t], SMALLEST)
                if slope_t * slope_t / curve_t >= gained:
                    j, gained = t, slope_t * slope_t / curve_t
        row_j = kernel[j]
        moved = (high - (left[j] + low[j])) / max(np.float64(own) + diagonal[j] - 2.0 * row_i[j], SMALLEST)
        end_i = 0.0 if beta[i] < 0 else c  # a step ends where one of the two halves does, as in libsvm
        end_j = 0.0 if beta[j] > 0 else -c
        room_i, room_j = end_i - beta[i], beta[j] - end_j
        moved = min(moved, room_i, room_j)
        beta[i] = end_i if moved == room_i else beta[i] + moved
        beta[j] = end_j if moved == room_j else beta[j] - moved
        for t in (i, j):
            up[t] = -NEVER if beta[t] >= c else (epsilon if beta[t] < 0 else -epsilon)
            low[t] = NEVER if beta[t] <= -c else (-epsilon if beta[t] > 0 else epsilon)
        steps += 1
    return high, lowest, steps, done


@_compiled
def _residual(kernel, target, beta):  # type: ignore[no-untyped-def]
    """y − Kβ of every row."""
    left = target.copy()
    for j in range(len(beta)):
        if beta[j] != 0:
            row, b = kernel[j], beta[j]
            for t in range(len(left)):
                left[t] -= b * row[t]
    return left


@_compiled
def _square(kernel, rows):  # type: ignore[no-untyped-def]
    """The kernel of these rows alone."""
    made = np.empty((len(rows), len(rows)), dtype=np.float32)
    for a in range(len(rows)):
        row = kernel[rows[a]]
        for b in range(len(rows)):
            made[a, b] = row[rows[b]]
    return made


def _unsettled(beta: Floats, left: Floats, c: float, epsilon: float, high: float, low: float) -> Any:
    """Which rows may still move: not those that lie at a bound, or at 0, by more than the whole gap."""
    settled = (beta >= c) & (left - epsilon > high)
    settled |= (beta <= -c) & (left + epsilon < low)
    settled |= (beta == 0) & (left - epsilon < low) & (left + epsilon > high)
    return ~settled


def _constant(beta: Floats, left: Floats, c: float, epsilon: float) -> float:
    """The mean over rows on the tube's edge; where there is none, the middle of what is allowed."""
    free = (beta != 0) & (np.abs(beta) < c)
    if free.any():
        return float((left - epsilon * np.sign(beta))[free].mean())
    high = np.where(beta < c, left + np.where(beta < 0, epsilon, -epsilon), -NEVER).max()
    low = np.where(beta > -c, left + np.where(beta > 0, -epsilon, epsilon), NEVER).min()
    return float((high + low) / 2)


@_compiled
def _fill(values, dots, squares, distances, made):  # type: ignore[no-untyped-def]
    for i in range(dots.shape[0]):
        for j in range(dots.shape[1]):
            d = np.int64(dots[i, j])
            made[i, j] = values[squares[i] + squares[j] - 2 * d if distances else d]


@_compiled
def _sums(values, dots, rows, squares, distances, beta, used):  # type: ignore[no-untyped-def]
    sums = np.zeros(dots.shape[0])
    for i in range(dots.shape[0]):
        total = 0.0
        for k in range(len(used)):
            d = np.int64(dots[i, used[k]])
            total += beta[k] * values[rows[i] + squares[used[k]] - 2 * d if distances else d]
        sums[i] = total
    return sums
