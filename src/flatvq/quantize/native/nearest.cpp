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

namespace {

// Codes that follow one another, beside one vector: see screen.h.
struct Unit {
    int row;
    int64_t code;
};

}  // namespace

#if defined(__x86_64__)
#include <immintrin.h>

#define VARIANT avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define ROWS 8
#define REGS 3
#define MULTIPLY_ADD __builtin_fmaf
#define SCREEN_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define PAIRS(sums, a, b) (Ints) _mm512_dpwssd_epi32((__m512i)(sums), (__m512i)(a), (__m512i)(b))
#define BITS(mask) _mm512_test_epi32_mask((__m512i)(mask), (__m512i)(mask))
#include "group.h"

#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 6
#define REGS 2
#define MULTIPLY_ADD __builtin_fmaf
#define SCREEN_TARGET TARGET
#define PAIRS(sums, a, b) ((sums) + (Ints)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#define BITS(mask) _mm256_movemask_ps((__m256)(mask))
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

// What screen.h adds to a variant.
struct Screen {
    int group, unit, lanes;
    void (*quantize)(const float *, int64_t, int64_t, float, int16_t *);
    float (*longest)(const float *, int64_t, int64_t);
    void (*scale_offsets)(const float *, int64_t, float, int32_t *);
    void (*pack_group)(const float *, const float *, int64_t, int64_t, float, int16_t *, int16_t *, float *);
    bool (*search)(
        const float *, const int16_t *, int64_t, const float *, const float *, const int16_t *, const int32_t *,
        int64_t, int32_t, int64_t, int32_t *, int32_t *, Unit *, int64_t, float *, int64_t *);
};

struct Variant {
    const char *name;
    int rows, panel;
    void (*search)(
        const float *, int64_t, const float *, const float *, int64_t, int64_t, float *, int64_t *);
    const Screen *screen;
};

#define SCREEN(variant)                                                                                        \
    {                                                                                                          \
        variant::GROUP, variant::DEPTH, variant::GROUP / variant::DEPTH, variant::quantize, variant::longest,  \
            variant::scale_offsets, variant::pack_group, variant::screen                                       \
    }

#if defined(__x86_64__)
const Screen AVX512 = SCREEN(avx512), AVX2 = SCREEN(avx2);
#endif

const Variant VARIANTS[] = {
#if defined(__x86_64__)
    {"AVX-512, screened", 8, avx512::PANEL, avx512::search, &AVX512},
    {"AVX-512", 8, avx512::PANEL, avx512::search, nullptr},
    {"AVX2, screened", 6, avx2::PANEL, avx2::search, &AVX2},
    {"AVX2", 6, avx2::PANEL, avx2::search, nullptr},
#endif
    {"portable", 8, portable::PANEL, portable::search, nullptr},
};
constexpr int COUNT = sizeof VARIANTS / sizeof *VARIANTS;
// No variant takes more vectors at once.
constexpr int MOST_ROWS = 8;

// Numbers in the codes that are searched at once (512 KiB): all of them pass through a core's own cache for
// every few vectors.
constexpr int64_t CODES = 1 << 17;
// Multiply-adds below which threads are not worth waking.
constexpr double FEW = 1 << 18;
// Vectors that are screened with steps of one size, a multiple of every variant's rows.
constexpr int64_t BLOCK = 240;
// Steps in the longest vector and in the longest code: short of 2^15, because what is computed of their
// lengths is off by a few roundings per dimension.
constexpr double RANGE = 32000;
constexpr int64_t MOST_DIM = 1 << 16;
// Lengths of codes and vectors between which nothing that is computed of them over- or underflows.
constexpr double SHORTEST = 0x1p-40, LONGEST = 0x1p40;

// How far the integer score of the code that the plain search finds may be below the largest integer score.
int32_t margin(int64_t dim)
{
    // In units of a product of steps. A value is off by half a step, so a vector and a code are by `off` of
    // their steps; an offset is scaled in float32, and the plain search rounds once for each dimension.
    const double off = 0.51 * std::sqrt((double)dim), product = off * (2 * RANGE + off);
    const double offset = RANGE * RANGE * 0x1p-23 + 1, plain = 1.5 * RANGE * RANGE * dim * 0x1p-23;
    return (int32_t)(1.01 * 2 * (product + offset + plain)) + 1;
}

struct Codes {
    int64_t dim;
    const float *panels, *offsets;
    int64_t count;
    // For screening: groups of codes in steps, with their offsets, and the length of the longest code.
    int64_t groups;
    const int16_t *steps;
    const float *halves;
    double longest;
};

struct Search {
    const Variant &variant;
    const Codes &codes;
    const float *vectors;
    float *scores;
    int64_t *nearest;

    // Search for vectors [begin, end).
    void plain(int64_t begin, int64_t end) const
    {
        const int64_t dim = codes.dim, fit = CODES / (dim * variant.panel), part = fit < 1 ? 1 : fit;
        for (int64_t first = 0; first < codes.count; first += part) {
            const int64_t size = codes.count - first < part ? codes.count - first : part;
            for (int64_t row = begin; row < end; row += variant.rows)
                variant.search(
                    vectors + row * dim, dim, codes.panels + first * dim * variant.panel,
                    codes.offsets + first * variant.panel, size, first, scores + row, nearest + row);
        }
    }

    // The same, with room for what is computed on the way.
    void screened(int64_t begin, int64_t end, char *room) const;
};

int64_t even(int64_t dim) { return dim + dim % 2; }

// What the search of a block of vectors needs room for.
struct Room {
    int64_t part, units, steps, offsets, maxima;

    Room(const Screen &screen, const Codes &codes)
    {
        const int64_t fit = CODES / (even(codes.dim) * screen.group);
        part = fit < 1 ? 1 : fit < codes.groups ? fit : codes.groups;
        units = MOST_ROWS * (part * screen.lanes / 8 + 2);
        steps = BLOCK * even(codes.dim);
        offsets = codes.groups * screen.group;
        maxima = (MOST_ROWS * part + part / 8 + 1) * screen.lanes;
    }
    int64_t size() const
    {
        const int64_t bytes = units * sizeof(Unit) + steps * 2 + offsets * 4 + maxima * 4 + 4 * 64;
        return bytes - bytes % 64 + 64;
    }
};

void Search::screened(int64_t begin, int64_t end, char *room) const
{
    const Screen &screen = *variant.screen;
    const Room sizes(screen, codes);
    const int64_t dim = codes.dim;
    Unit *units = (Unit *)room;
    int32_t *offsets = (int32_t *)(units + sizes.units), *maxima = offsets + sizes.offsets;
    int16_t *steps = (int16_t *)(maxima + sizes.maxima);
    const int32_t allowed = margin(dim);
    int64_t pause = 0, wait = 0;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int64_t stop = end - start < BLOCK ? end : start + BLOCK;
        const double length = std::sqrt((double)screen.longest(vectors + start * dim, stop - start, dim));
        const double most = length < codes.longest ? codes.longest : length;
        if (!(codes.longest >= SHORTEST && most <= LONGEST)) {
            plain(start, stop);
            continue;
        }
        screen.quantize(vectors + start * dim, stop - start, dim, (float)(RANGE / most), steps);
        screen.scale_offsets(
            codes.halves, sizes.offsets, (float)(RANGE / most * (RANGE / codes.longest)), offsets);
        int32_t tops[BLOCK];
        bool failed[BLOCK] = {};
        for (int64_t row = 0; row < BLOCK; row++)
            tops[row] = INT32_MIN;
        for (int64_t first = 0; first < codes.groups; first += sizes.part) {
            const int64_t size = codes.groups - first < sizes.part ? codes.groups - first : sizes.part;
            for (int64_t row = start; row < stop; row += variant.rows) {
                const int64_t place = row - start;
                if (failed[place])
                    continue;
                if (wait) {
                    wait--;
                    failed[place] = true;
                    continue;
                }
                failed[place] = !screen.search(
                    vectors + row * dim, steps + place * even(dim), dim, codes.panels, codes.offsets,
                    codes.steps + first * screen.group * even(dim), offsets + first * screen.group, size,
                    allowed, first * screen.lanes, tops + place, maxima, units,
                    variant.rows * (size * screen.lanes / 8 + 2), scores + row, nearest + row);
                if (failed[place]) {
                    pause = 2 * pause + 1 < 255 ? 2 * pause + 1 : 255;
                    wait = pause;
                } else
                    pause = 0;
            }
        }
        for (int64_t row = start; row < stop; row += variant.rows)
            if (failed[row - start])
                plain(row, row + variant.rows);
    }
}

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

// On a cache line's border, and empty.
template <typename T> T *array(int64_t count)
{
    const size_t size = (count * sizeof(T) + 63) / 64 * 64;
    T *memory = (T *)std::aligned_alloc(64, size);
    if (memory)
        std::memset(memory, 0, size);
    return memory;
}

}  // namespace

extern "C" const char *flatvq_variant(int number) { return number < COUNT ? VARIANTS[number].name : nullptr; }

// The number of the fastest variant that this processor can run, or -1: without fused multiply-adds none pays.
extern "C" int flatvq_fastest(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni") ? 0 : 1;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 2 : -1;
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
    const Screen *screen = dim <= MOST_DIM ? variant.screen : nullptr;
    const int64_t width = variant.panel, count = (k + width - 1) / width;
    const int64_t groups = screen ? (k + screen->group - 1) / screen->group : 0;
    const int64_t pieces = (double)n * k * dim < FEW || threads < 1 ? 1 : threads;
    // The last rows of vectors that do not fill a group are searched in a group of their own.
    const int64_t whole = n - n % variant.rows, rest = n - whole;
    float *panels = array<float>(count * width * dim), *offsets = array<float>(count * width);
    float *scores = array<float>(whole + variant.rows), *last = array<float>(variant.rows * dim);
    const int64_t size = screen ? groups * screen->group : 0;
    int16_t *steps = array<int16_t>(size * even(dim));
    float *halves = array<float>(size);
    int64_t found[MOST_ROWS] = {};
    Codes packed{dim, panels, offsets, count, groups, steps, halves, 0};
    const int64_t room = screen ? Room(*screen, packed).size() : 0;
    char *rooms = array<char>(room * pieces);
    const bool enough = panels && offsets && scores && last && steps && halves && rooms;
    if (enough) {
        pack(codes, k, dim, width, panels, offsets);
        const float lowest = -std::numeric_limits<float>::infinity();
        for (int64_t code = k; code < count * width; code++)
            offsets[code] = lowest;
        for (int64_t row = 0; row < whole + variant.rows; row++)
            scores[row] = lowest;
        if (screen) {
            float least = 0;
            for (int64_t code = 0; code < k; code++)
                least = offsets[code] < least ? offsets[code] : least;
            packed.longest = std::sqrt(-2.0 * least);
            if (packed.longest >= SHORTEST && packed.longest <= LONGEST)
                for (int64_t group = 0; group < groups; group++)
                    screen->pack_group(
                        codes + group * screen->group * dim, offsets + group * screen->group,
                        k - group * screen->group, dim, (float)(RANGE / packed.longest),
                        (int16_t *)rooms, steps + group * screen->group * even(dim), halves + group * screen->group);
        }
        const Search search{variant, packed, vectors, scores, nearest};
        const int64_t rows = whole / variant.rows;
#pragma omp parallel for num_threads(pieces) schedule(static) if (pieces > 1)
        for (int64_t piece = 0; piece < pieces; piece++) {
            const int64_t begin = rows * piece / pieces * variant.rows;
            const int64_t end = rows * (piece + 1) / pieces * variant.rows;
            if (screen)
                search.screened(begin, end, rooms + piece * room);
            else
                search.plain(begin, end);
        }
        if (rest) {
            std::memcpy(last, vectors + whole * dim, rest * dim * sizeof(float));
            const Search tail{variant, packed, last, scores + whole, found};
            if (screen)
                tail.screened(0, variant.rows, rooms);
            else
                tail.plain(0, variant.rows);
            std::memcpy(nearest + whole, found, rest * sizeof(int64_t));
        }
    }
    std::free(panels);
    std::free(offsets);
    std::free(scores);
    std::free(last);
    std::free(steps);
    std::free(halves);
    std::free(rooms);
    return enough ? 0 : 1;
}
