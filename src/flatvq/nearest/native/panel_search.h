// The search of a few vectors among packed codes, as templates over an instruction set.
//
// The nearest code of z is the one with the largest score z e - |e|^2 / 2. A score is one chain of fused
// multiply-adds from the first dimension to the last. So equal codes get equal scores, and the result does not
// depend on the instruction set, the number of threads or the split into batches.
//
// A template parameter `Set` names an instruction set. It has the types Floats and Ints (registers), the numbers
// LANES (floats in a register), ROWS (vectors searched at once) and REGISTERS (registers of codes in a panel),
// and `multiply_add`, which rounds one sum as the registers' sums are rounded. Every function is a template, so
// that no two instruction sets share a symbol.

#ifndef FLATVQ_PANEL_SEARCH_H
#define FLATVQ_PANEL_SEARCH_H

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace flatvq {

template <class Set> constexpr int WIDTH = Set::LANES * Set::REGISTERS;

template <class Set> int32_t largest_bits(const float *values, int64_t count)
{
    int32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++) {
        int32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        bits &= INT32_MAX;
        largest = largest < bits ? bits : largest;
    }
    return largest;
}

template <class Set>
int32_t add_moments(
    const float *values, int64_t count, int64_t dim, double *__restrict sums, double *__restrict squares)
{
    int32_t largest = 0;
    for (int64_t row = 0; row < count; row++)
#pragma omp simd reduction(max : largest)
        for (int64_t d = 0; d < dim; d++) {
            const float value = values[row * dim + d];
            int32_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            bits &= INT32_MAX;
            largest = largest < bits ? bits : largest;
            sums[d] += value;
            squares[d] += static_cast<double>(value) * value;
        }
    return largest;
}

template <class Set>
void look_up(
    const float *vectors, int64_t count, int64_t dim, const float *codes, const int64_t *nearest,
    float *code_vectors, double *squares)
{
    // Squares of this many dimensions are added in float32, then in float64.
    constexpr int64_t RUN = 64;
    for (int64_t row = 0; row < count; row++) {
        const float *vector = vectors + row * dim, *code = codes + nearest[row] * dim;
        float *copy = code_vectors + row * dim;
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

// The first code of a lane in a panel that has the lane's largest score.
template <class Set>
int64_t first_of_lane(const float *vector, const Panels &panels, int64_t panel, int lane)
{
    // The search did not keep which register the score came from, so it is computed again.
    const float *values = panels.values + panel * panels.dim * WIDTH<Set> + lane;
    float sum[Set::REGISTERS];
    for (int reg = 0; reg < Set::REGISTERS; reg++)
        sum[reg] = panels.offsets[panel * WIDTH<Set> + lane + reg * Set::LANES];
    for (int64_t d = 0; d < panels.dim; d++)
#pragma GCC unroll 4
        for (int reg = 0; reg < Set::REGISTERS; reg++)
            sum[reg] = Set::multiply_add(vector[d], values[d * WIDTH<Set> + reg * Set::LANES], sum[reg]);
    int place = 0;
    for (int reg = 1; reg < Set::REGISTERS; reg++)
        place = sum[place] < sum[reg] ? reg : place;
    return panel * WIDTH<Set> + lane + place * Set::LANES;
}

// See Kernels::search. Of two equal scores the first stays.
template <class Set>
void search_panels(
    const float *vectors, const Panels &panels, int64_t first, int64_t last, float *scores, int64_t *nearest)
{
    using Floats = typename Set::Floats;
    using Ints = typename Set::Ints;
    constexpr int LANES = Set::LANES, ROWS = Set::ROWS, REGISTERS = Set::REGISTERS, PANEL = WIDTH<Set>;
    const int64_t dim = panels.dim;
    const float *const values = panels.values, *const offsets = panels.offsets;
    // For each lane, the largest score so far and its panel.
    Floats best[ROWS];
    Ints where[ROWS];
    for (int row = 0; row < ROWS; row++) {
        best[row] = Floats{} - INFINITY;
        where[row] = Ints{};
    }
    for (int64_t panel = first; panel < last; panel++) {
        const float *codes = values + panel * dim * PANEL;
        Floats sum[ROWS][REGISTERS];
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
            for (int reg = 0; reg < REGISTERS; reg++)
                sum[row][reg] = *(const Floats *)(offsets + panel * PANEL + reg * LANES);
        for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < REGISTERS; reg++)
                    sum[row][reg] += vectors[row * dim + d] * *(const Floats *)(codes + d * PANEL + reg * LANES);
        const Ints here = Ints{} + (int32_t)panel;
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            Floats largest = sum[row][0];
#pragma GCC unroll 4
            for (int reg = 1; reg < REGISTERS; reg++)
                largest = largest < sum[row][reg] ? sum[row][reg] : largest;
            const Ints better = best[row] < largest;
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
        int64_t lowest = INT64_MAX;
        for (int lane = 0; lane < LANES; lane++) {
            if (best[row][lane] != largest)
                continue;
            const int64_t code = first_of_lane<Set>(vectors + row * dim, panels, where[row][lane], lane);
            lowest = code < lowest ? code : lowest;
        }
        scores[row] = largest;
        nearest[row] = lowest;
    }
}

}  // namespace flatvq

#endif
