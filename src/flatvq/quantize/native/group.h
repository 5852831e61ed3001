// The nearest codes of a few vectors, for one instruction set: nearest.cpp includes this once for each.
//
// That defines VARIANT (a namespace), TARGET (the attribute that allows the instructions), LANES (floats in a
// register), how many sums are kept in registers (those of ROWS vectors with REGS registers of codes), and
// MULTIPLY_ADD, which has to round a single sum as the registers' sums are rounded. Where PAIRS is defined, it
// goes on with the searches that screen in integers and that prune, and where TILE_TARGET is, that screens in tiles.

namespace VARIANT {

constexpr int PANEL = LANES * REGS;

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4)));

// The bits of the largest absolute value: those of infinity, or more, if a value is not finite.
TARGET static int32_t largest(const float *values, int64_t count)
{
    int32_t most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < count; i++) {
        int32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        bits &= INT32_MAX;
        most = most < bits ? bits : most;
    }
    return most;
}

// Write the codes that were found for vectors [count, dim], and how far each is: the square of its distance.
TARGET static void look_up(
    const float *vectors, int64_t count, int64_t dim, const float *codes, const int64_t *nearest, float *chosen,
    double *squares)
{
    for (int64_t row = 0; row < count; row++) {
        const float *vector = vectors + row * dim, *code = codes + nearest[row] * dim;
        float *copy = chosen + row * dim;
        double total = 0;
        for (int64_t begin = 0; begin < dim; begin += RUN) {
            const int64_t end = begin + RUN < dim ? begin + RUN : dim;
            float square = 0;
#pragma omp simd reduction(+ : square)
            for (int64_t d = begin; d < end; d++) {
                copy[d] = code[d];
                square += (vector[d] - code[d]) * (vector[d] - code[d]);
            }
            total += square;
        }
        squares[row] = total;
    }
}

// Of two equal scores the first argument stays, so that the first code of equals is found.
TARGET static void search(
    const float *vectors, int64_t dim, const float *panels, const float *offsets, int64_t count,
    int64_t first, float *scores, int64_t *nearest)
{
    // Lane by lane, the largest score so far, and the panel that it is in.
    Floats best[ROWS];
    Ints where[ROWS];
    for (int row = 0; row < ROWS; row++) {
        best[row] = Floats{} - INFINITY;
        where[row] = Ints{};
    }
    for (int64_t panel = 0; panel < count; panel++) {
        const float *codes = panels + panel * dim * PANEL;
        Floats sum[ROWS][REGS];
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
            for (int reg = 0; reg < REGS; reg++)
                sum[row][reg] = *(const Floats *)(offsets + panel * PANEL + reg * LANES);
        for (int64_t d = 0; d < dim; d++) {
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < REGS; reg++)
                    sum[row][reg] +=
                        vectors[row * dim + d] * *(const Floats *)(codes + d * PANEL + reg * LANES);
        }
        Ints here = Ints{} + (int32_t)panel;
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            Floats largest = sum[row][0];
#pragma GCC unroll 4
            for (int reg = 1; reg < REGS; reg++)
                largest = largest < sum[row][reg] ? sum[row][reg] : largest;
            Ints better = best[row] < largest;
            best[row] = better ? largest : best[row];
            where[row] = better ? here : where[row];
        }
    }
    for (int row = 0; row < ROWS; row++) {
        float largest = best[row][0];
        for (int lane = 1; lane < LANES; lane++)
            largest = largest < best[row][lane] ? best[row][lane] : largest;
        if (!(scores[row] < largest))
            continue;
        // Which register of its panel a lane's score came from was not kept: it is computed once more.
        int64_t lowest = INT64_MAX;
        for (int lane = 0; lane < LANES; lane++) {
            if (best[row][lane] != largest)
                continue;
            int64_t start = where[row][lane] * (int64_t)PANEL, code = start + lane;
            float highest = -INFINITY;
            for (int reg = 0; reg < REGS; reg++) {
                float sum = offsets[start + reg * LANES + lane];
                for (int64_t d = 0; d < dim; d++)
                    sum = MULTIPLY_ADD(
                        vectors[row * dim + d], panels[start * dim + d * PANEL + reg * LANES + lane], sum);
                if (highest < sum) {
                    highest = sum;
                    code = start + reg * LANES + lane;
                }
            }
            lowest = code < lowest ? code : lowest;
        }
        scores[row] = largest;
        nearest[row] = first * PANEL + lowest;
    }
}

}  // namespace VARIANT

#ifdef PAIRS
#include "margin.h"
#include "integers.h"
#include "screen.h"
#include "leaf.h"
#ifdef TILE_TARGET
#include "tiles.h"
#include "screen_tiles.h"
#undef TILE_TARGET
#endif
#undef SCREEN_TARGET
#undef PAIRS
#undef AT_LEAST
#undef INTS_AT_LEAST
#undef GREATER
#undef LESSER
#undef SQUARE_ROOT
#undef FIRST
#undef QUADS
#endif

#undef VARIANT
#undef TARGET
#undef LANES
#undef ROWS
#undef REGS
#undef MULTIPLY_ADD
