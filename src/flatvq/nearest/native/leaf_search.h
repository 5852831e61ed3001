// The search of a few neighboring vectors among the leaves of a tree, as templates over an instruction set.
//
// A leaf is skipped if its box is further from a vector than the nearest code so far. Scores are computed as in
// panel_search.h, and of equal scores the lowest code is taken in whatever order leaves are visited. So the result
// is the same as without a tree, bit by bit.
//
// In addition to what panel_search.h needs, `Set` has `at_least`, which returns a bit for each lane.

#ifndef FLATVQ_LEAF_SEARCH_H
#define FLATVQ_LEAF_SEARCH_H

#include <cmath>
#include <cstdint>

#include "kernels.h"
#include "panel_search.h"

namespace flatvq {

typedef float Place __attribute__((vector_size(4 * AXES), aligned(4)));

template <class Set> void project(const float *values, int64_t count, int64_t dim, const float *axes, float *places)
{
    constexpr int AT_ONCE = 8;
    for (int64_t first = 0; first < count; first += AT_ONCE) {
        const float *value[AT_ONCE];
        Place sum[AT_ONCE] = {};
        for (int i = 0; i < AT_ONCE; i++)
            value[i] = values + (first + i < count ? first + i : count - 1) * dim;
        for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
            for (int i = 0; i < AT_ONCE; i++)
                sum[i] += value[i][d] * *(const Place *)(axes + d * AXES);
        for (int i = 0; i < AT_ONCE && first + i < count; i++)
            *(Place *)(places + (first + i) * AXES) = sum[i];
    }
}

// The bound on the square of a place's distance, from the square of the true distance: rounding moves a place by
// some b, and (a + b)^2 <= a^2 (1 + 2^-9) + b^2 (1 + 2^9). The factor leaves room for rounding in the product.
constexpr float REACH = 1 + 0x1p-8f;

// A chunk of vectors on its way through the leaves.
template <class Set> class Chunk {
    using Floats = typename Set::Floats;
    // Registers that hold one number of each vector, and vectors in them.
    static constexpr int LANES = Set::LANES, PARTS = 8, SIZE = PARTS * LANES;
    // Registers whose lanes fit 64 bits.
    static constexpr int SPAN = 64 / LANES;
    // Registers of codes whose sums are kept for `ROWS` vectors, and codes in them.
    static constexpr int ROWS = Set::ROWS, BEAM = 2, STRIP = BEAM * LANES;

public:
    static constexpr int MOST = SIZE;

    Chunk(
        const Leaves &leaves, const Panels &panels, const float *vectors, const float *places, const int64_t *rows,
        int count)
        : leaves(leaves), panels(panels)
    {
        const int64_t dim = panels.dim;
        for (int i = 0; i < SIZE; i++) {
            const int64_t row = rows[i < count ? i : count - 1];
            vector[i] = vectors + row * dim;
            double sum = 0;
            for (int64_t d = 0; d < dim; d++)
                sum += (double)vector[i][d] * vector[i][d];
            // Bounds on rounding, each with a margin: twice the error of a score, (dim + 1) 2^-24 (|z e| + |e|^2 / 2);
            // and 2^9 times the square of the error of a place, AXES^(1/2) dim 2^-24 (|z| + |e|).
            const double rounding = (double)(dim + 4) * 0x1p-22;
            const double lengths = sum + leaves.longest * leaves.longest;
            slack[i] = (float)((rounding + 0x1p10 * rounding * rounding) * lengths);
            square[i] = (float)sum;
            score[i] = -INFINITY;
            code[i] = 0;
            // Vectors that fill the chunk up have no leaf within reach.
            reach[i] = i < count ? INFINITY : -1;
            const Place place = *(const Place *)(places + row * AXES);
            for (int axis = 0; axis < AXES; axis++)
                coordinates[axis][i] = place[axis];
            low = place < low ? place : low;
            high = place > high ? place : high;
        }
    }

    void visit(int64_t leaf)
    {
        if (gap(leaf) > furthest)
            return;
        int list[SIZE];
        const int count = within_reach(leaf, list);
        improved = false;
        for (int begin = 0; begin < count; begin += ROWS)
            compare(leaf, list + begin, count - begin < ROWS ? count - begin : ROWS);
        if (!improved)
            return;
        furthest = reach[0];
        for (int i = 1; i < SIZE; i++)
            furthest = furthest < reach[i] ? reach[i] : furthest;
    }

    // List the vectors that have a leaf within reach, and return their number.
    int within_reach(int64_t leaf, int *list) const
    {
        Floats distance[PARTS] = {};
#pragma GCC unroll 8
        for (int axis = 0; axis < AXES; axis++) {
            const Floats least = Floats{} + leaves.low[leaf * AXES + axis];
            const Floats most = Floats{} + leaves.high[leaf * AXES + axis];
#pragma GCC unroll 8
            for (int part = 0; part < PARTS; part++) {
                const Floats here = *(const Floats *)(coordinates[axis] + part * LANES);
                const Floats above = here > least ? here : least;
                const Floats apart = (above < most ? above : most) - here;
                distance[part] += apart * apart;
            }
        }
        int count = 0;
        for (int first = 0; first < PARTS; first += SPAN) {
            uint64_t near = 0;
            for (int part = first; part < first + SPAN && part < PARTS; part++)
                near |= (uint64_t)Set::at_least(*(const Floats *)(reach + part * LANES), distance[part])
                        << (part - first) * LANES;
            for (; near; near &= near - 1)
                list[count++] = first * LANES + __builtin_ctzll(near);
        }
        return count;
    }

    int64_t nearest(int i) const { return code[i]; }

private:
    const Leaves &leaves;
    const Panels &panels;
    const float *vector[SIZE];
    float coordinates[AXES][SIZE];
    Place low = Place{} + INFINITY, high = Place{} - INFINITY;  // the box around all places
    // |z|^2; the largest score and its code; the bound on rounding; and the square of the distance up to which a
    // leaf may hold a nearer code.
    float square[SIZE], score[SIZE], slack[SIZE], reach[SIZE];
    int64_t code[SIZE];
    float furthest = INFINITY;  // the largest reach
    bool improved = false;

    // The square of the distance between the box of a leaf and the box of the chunk.
    float gap(int64_t leaf) const
    {
        const Place left = *(const Place *)(leaves.low + leaf * AXES) - high;
        const Place right = low - *(const Place *)(leaves.high + leaf * AXES);
        Place apart = left > right ? left : right;
        apart = apart > 0 ? apart * apart : Place{};
        float sum = 0;
        for (int axis = 0; axis < AXES; axis++)
            sum += apart[axis];
        return sum;
    }

    // Compute the scores of a leaf's codes for a few of the vectors.
    void compare(int64_t leaf, const int *list, int count)
    {
        const int64_t dim = panels.dim;
        int which[ROWS];
        const float *given[ROWS];
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            which[row] = list[row < count ? row : count - 1];
            given[row] = vector[which[row]];
        }
        for (int64_t strip = leaf * LEAF; strip < (leaf + 1) * LEAF; strip += STRIP) {
            const float *column = panels.values + leaf * LEAF * dim + strip % LEAF;
            Floats sum[ROWS][BEAM];
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < BEAM; reg++)
                    sum[row][reg] = *(const Floats *)(panels.offsets + strip + reg * LANES);
            for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                    for (int reg = 0; reg < BEAM; reg++)
                        sum[row][reg] += given[row][d] * *(const Floats *)(column + d * LEAF + reg * LANES);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++) {
                Floats highest = sum[row][0];
#pragma GCC unroll 4
                for (int reg = 1; reg < BEAM; reg++)
                    highest = highest > sum[row][reg] ? highest : sum[row][reg];
                if (__builtin_expect(Set::at_least(highest, Floats{} + score[which[row]]) != 0, 0)) {
                    Floats scores[BEAM];
#pragma GCC unroll 4
                    for (int reg = 0; reg < BEAM; reg++)
                        scores[reg] = sum[row][reg];
                    improve(which[row], scores, strip);
                }
            }
        }
    }

    // Take a code from a strip: one with a larger score, or one with the same score and a lower number.
    __attribute__((noinline)) void improve(int i, const Floats *scores, int64_t strip)
    {
        float highest = scores[0][0];
        for (int reg = 0; reg < BEAM; reg++)
            for (int lane = 0; lane < LANES; lane++)
                highest = highest < scores[reg][lane] ? scores[reg][lane] : highest;
        int64_t first = INT64_MAX;
        for (int reg = 0; reg < BEAM; reg++)
            for (unsigned equal = Set::at_least(scores[reg], Floats{} + highest); equal; equal &= equal - 1) {
                const int64_t other = leaves.order[strip + reg * LANES + __builtin_ctz(equal)];
                first = other < first ? other : first;
            }
        if (score[i] == highest) {
            code[i] = first < code[i] ? first : code[i];
            return;
        }
        score[i] = highest;
        code[i] = first;
        // |z - e|^2 = |z|^2 - 2 (z e - |e|^2 / 2).
        const float distance = square[i] - 2 * highest;
        reach[i] = (distance > 0 ? distance : 0) * REACH + slack[i];
        improved = true;
    }
};

// See Kernels::search_leaves.
template <class Set>
void search_leaves(
    const Leaves &leaves, const Panels &panels, const float *vectors, const float *places, const int64_t *rows,
    int count, int64_t start, int64_t *nearest, int64_t *near)
{
    Chunk<Set> chunk(leaves, panels, vectors, places, rows, count);
    // First the leaf `start`, then leaves that share fewer and fewer leading bits with it: ever further away.
    for (int64_t step = 0, leaf = start; step < 2 * leaves.count; leaf = ++step ^ start)
        if (leaf < leaves.count)
            chunk.visit(leaf);
    for (int i = 0; i < count; i++)
        nearest[rows[i]] = chunk.nearest(i);
    int list[Chunk<Set>::MOST];
    for (int64_t leaf = 0; near && leaf < leaves.count; leaf++)
        *near += chunk.within_reach(leaf, list);
}

// The kernels of an instruction set.
template <class Set> constexpr Kernels kernels_of(const char *name, bool (*supported)())
{
    return {
        name, supported, Set::ROWS, WIDTH<Set>, Chunk<Set>::MOST, largest_bits<Set>, add_moments<Set>,
        search_panels<Set>, look_up<Set>, project<Set>, search_leaves<Set>};
}

}  // namespace flatvq

#endif
