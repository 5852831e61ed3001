// Nearest codes in one pass: a product that keeps only each vector's largest score.
//
// The nearest code of z is the one with the largest score z e - |e|^2 / 2. A score is one chain of fused
// multiply-adds, from the first dimension to the last, whatever else is searched beside it: so equal codes
// get equal scores, and neither threads nor the split into batches nor the instruction set changes a bit.
//
// Axes: n vectors, k codes, dim. A panel holds as many codes as there are sums in a row of registers, its
// dimensions one after the other; codes that fill up the last panel have a score of minus infinity.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#define VARIANT avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define ROWS 8
#define REGS 3
#define MULTIPLY_ADD __builtin_fmaf
#include "group.h"

#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 6
#define REGS 2
#define MULTIPLY_ADD __builtin_fmaf
#include "group.h"
#endif

// Registers of 16 bytes, as ARM's processors have: there multiply-adds are fused without asking.
#define VARIANT portable
#define TARGET
#define LANES 4
#define ROWS 8
#define REGS 3
#if defined(__aarch64__)
#define MULTIPLY_ADD __builtin_fmaf
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif
#include "group.h"

namespace {

struct Variant {
    const char *name;
    int rows, panel;
    void (*search)(
        const float *, int64_t, const float *, const float *, int64_t, int64_t, float *, int64_t *);
};

const Variant VARIANTS[] = {
#if defined(__x86_64__)
    {"AVX-512", 8, avx512::PANEL, avx512::search},
    {"AVX2", 6, avx2::PANEL, avx2::search},
#endif
    {"portable", 8, portable::PANEL, portable::search},
};
constexpr int COUNT = sizeof VARIANTS / sizeof *VARIANTS;
// No variant takes more vectors at once.
constexpr int MOST_ROWS = 8;

// Numbers in the codes that are searched at once (512 KiB): all of them pass through a core's own cache for
// every few vectors.
constexpr int64_t CODES = 1 << 17;
// Multiply-adds below which threads are not worth waking.
constexpr double FEW = 1 << 18;

struct Search {
    const Variant &variant;
    const float *vectors;
    int64_t dim;
    const float *panels, *offsets;
    int64_t count;
    float *scores;
    int64_t *nearest;

    // Search for vectors [begin, end).
    void rows(int64_t begin, int64_t end) const
    {
        const int64_t fit = CODES / (dim * variant.panel), part = fit < 1 ? 1 : fit;
        for (int64_t first = 0; first < count; first += part) {
            const int64_t size = count - first < part ? count - first : part;
            const float *codes = panels + first * dim * variant.panel, *halves = offsets + first * variant.panel;
            for (int64_t row = begin; row < end; row += variant.rows)
                variant.search(
                    vectors + row * dim, dim, codes, halves, size, first, scores + row, nearest + row);
        }
    }
};

void pack(const float *codes, int64_t k, int64_t dim, int64_t width, float *panels, float *offsets)
{
    for (int64_t code = 0; code < k; code++) {
        float *column = panels + code / width * width * dim + code % width;
        double square = 0;
        for (int64_t d = 0; d < dim; d++) {
            const float value = codes[code * dim + d];
            column[d * width] = value;
            square += (double)value * value;
        }
        offsets[code] = (float)(square / -2);
    }
}

float *floats(int64_t count) { return (float *)std::calloc(count, sizeof(float)); }

}  // namespace

extern "C" const char *flatvq_variant(int number) { return number < COUNT ? VARIANTS[number].name : nullptr; }

// The number of the fastest variant that this processor can run, or -1: without fused multiply-adds none pays.
extern "C" int flatvq_fastest(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : -1;
#elif defined(__aarch64__)
    return 0;
#else
    return -1;
#endif
}

// Write the index of the nearest code of each vector [n, dim] to `nearest` [n]; 0 if all went well, 1 if
// there was no memory for a copy of the codes [k, dim].
extern "C" int flatvq_nearest(
    int number, const float *vectors, int64_t n, int64_t dim, const float *codes, int64_t k, int threads,
    int64_t *nearest)
{
    const Variant &variant = VARIANTS[number];
    const int64_t width = variant.panel, count = (k + width - 1) / width;
    // The last rows of vectors that do not fill a group are searched in a group of their own.
    const int64_t whole = n - n % variant.rows, rest = n - whole;
    float *panels = floats(count * width * dim), *offsets = floats(count * width);
    float *scores = floats(whole + variant.rows), *last = floats(variant.rows * dim);
    int64_t found[MOST_ROWS] = {};
    const bool enough = panels && offsets && scores && last;
    if (enough) {
        pack(codes, k, dim, width, panels, offsets);
        const float lowest = -std::numeric_limits<float>::infinity();
        for (int64_t code = k; code < count * width; code++)
            offsets[code] = lowest;
        for (int64_t row = 0; row < whole + variant.rows; row++)
            scores[row] = lowest;
        const Search search{variant, vectors, dim, panels, offsets, count, scores, nearest};
        const int64_t groups = whole / variant.rows;
        const int64_t pieces = (double)n * k * dim < FEW || threads < 1 ? 1 : threads;
        if (pieces == 1)
            search.rows(0, whole);
        else {
#pragma omp parallel for num_threads(threads) schedule(static)
            for (int64_t piece = 0; piece < pieces; piece++)
                search.rows(
                    groups * piece / pieces * variant.rows, groups * (piece + 1) / pieces * variant.rows);
        }
        if (rest) {
            std::memcpy(last, vectors + whole * dim, rest * dim * sizeof(float));
            const Search tail{variant, last, dim, panels, offsets, count, scores + whole, found};
            tail.rows(0, variant.rows);
            std::memcpy(nearest + whole, found, rest * sizeof(int64_t));
        }
    }
    std::free(panels);
    std::free(offsets);
    std::free(scores);
    std::free(last);
    return enough ? 0 : 1;
}
