// Scores in integers of 16 bits, or of 8, whose sums of products take a half or a quarter as long as those of floats:
// nearest.cpp includes this, by way of group.h, for each instruction set that has them.
//
// Vectors and codes are rounded to whole steps. Of integers of 16 bits the longest vector z and the longest code e are
// RANGE steps long, or less, and no sum overflows: |z e| + |e|^2 / 2 <= 3/2 RANGE^2 < 2^31 by Cauchy and Schwarz, and
// likewise over a part of the dimensions. Of those of 8 bits RANGE is for the largest value, and sums stay below
// MOST_DIM 2^7 (2^8 + 2^6). The processor wants one side of these without a sign: 128 is added to that of the codes,
// which adds the same to all scores of a vector.
//
// A unit is DEPTH codes that follow one another, and a group is LANES units. Only the largest score of each
// unit is kept: codes are laid out so that each lane runs through a unit of its own. As many dimensions as fill a word
// of 32 bits lie together, as they are multiplied; the last ones are filled up with zeros.
//
// It needs, beside what margin.h does, PAIRS(sums, a, b) (the sums plus the products of pairs of integers of 16 bits)
// and, for those of 8 bits, QUADS(sums, a, b), of which `a` has no sign; and FIRST(values, count), which loads LANES
// values, or fewer and zeros.

namespace VARIANT {

constexpr int DEPTH = 16, GROUP = LANES * DEPTH;
// Registers of codes for which sums are kept, beside ROWS vectors.
constexpr int WIDE = 2;

template <typename Number> constexpr int SIDE = (int)(sizeof(int32_t) / sizeof(Number));
template <typename Number> constexpr bool SHORT = sizeof(Number) == sizeof(int16_t);
template <typename Number> constexpr float RANGE = SHORT<Number> ? 32000 : 127;

template <typename Number> constexpr int64_t words_of(int64_t dim) { return (dim + SIDE<Number> - 1) / SIDE<Number>; }

template <typename Number> static int64_t bytes(int64_t dim) { return words_of<Number>(dim) * sizeof(int32_t); }

template <typename Number>
SCREEN_TARGET static inline __attribute__((always_inline)) Ints with_products(
    const Ints &sums, const Ints &codes, const Ints &vectors)
{
#ifdef QUADS
    if (!SHORT<Number>)
        return QUADS(sums, codes, vectors);
#endif
    return PAIRS(sums, codes, vectors);
}

// The size of one step.
template <typename Number> static float step_of_codes(const Codes &codes)
{
    return (float)(SHORT<Number> ? codes.longest : codes.largest) / RANGE<Number>;
}

enum Fold { SUM, LARGEST };

// The sum or the largest of a few numbers, as many as a power of two.
template <Fold FOLD, int COUNT> TARGET static inline __attribute__((always_inline)) float folded(const float *numbers)
{
    if (COUNT == 1)
        return *numbers;
    constexpr int HALF = COUNT > 1 ? COUNT / 2 : 1;
    typedef float Half __attribute__((vector_size(sizeof(float) * HALF)));
    Half low, high;
    std::memcpy(&low, numbers, sizeof low);
    std::memcpy(&high, numbers + COUNT - HALF, sizeof high);
    const Half both = FOLD == SUM ? low + high : low < high ? high : low;
    return folded<FOLD, HALF>((const float *)&both);
}

// Round [dim] values to whole steps. So many more than fill the last register are written, as zeros. Into lane `row` of
// `sizes` goes what became of them.
template <typename Number>
SCREEN_TARGET static inline void round_values(
    const float *values, int64_t dim, float step, Number *numbers, Rounded &sizes, int row)
{
    typedef Number Numbers __attribute__((vector_size(sizeof(Number) * LANES)));
    const float scale = 1 / step;
    Floats square = {}, lost = {}, sum = {};
    for (int64_t d = 0; d < dim; d += LANES) {
        const Floats exact = FIRST(values + d, dim - d < LANES ? dim - d : LANES);
        const Floats scaled = exact * scale;
        const Ints whole = __builtin_convertvector(scaled + (scaled < 0 ? Floats{} - 0.5f : Floats{} + 0.5f), Ints);
        const Floats wide = __builtin_convertvector(whole, Floats), now = wide * step, rest = exact - now;
        square += now * now;
        lost += rest * rest;
        sum += wide;
        const Numbers narrow = __builtin_convertvector(whole, Numbers);
        std::memcpy(numbers + d, &narrow, sizeof narrow);
    }
    sizes.square[row] = folded<SUM, LANES>((const float *)&square);
    sizes.lost[row] = folded<SUM, LANES>((const float *)&lost);
    sizes.sum[row] = SHORT<Number> ? 0 : folded<SUM, LANES>((const float *)&sum);
}

// Lay out a group of the codes [k, dim] and its offsets, and return the most that rounding takes off one, squared.
template <typename Number>
SCREEN_TARGET static float pack_group(const float *vectors, int64_t group, const Codes &codes)
{
    const int64_t dim = codes.dim, words = words_of<Number>(dim), first = group * GROUP;
    int32_t *integers = (int32_t *)codes.rounded + first * words;
    const float step = step_of_codes<Number>(codes);
    float most = 0;
    Number numbers[MOST_DIM + LANES];
    for (int64_t code = 0; code < GROUP; code++) {
        const int64_t bundle = code % DEPTH / WIDE * WIDE, place = code % WIDE * LANES + code / DEPTH;
        int32_t *here = integers + bundle * LANES * words + place;
        // What fills up the last group: zeros, with an offset below all scores.
        const bool there = first + code < codes.k;
        Rounded sizes = {Floats{} + INFINITY, {}, {}};
        if (there)
            round_values<Number>(vectors + (first + code) * dim, dim, step, numbers, sizes, 0);
        for (int64_t word = 0; word < words; word++) {
            int32_t bits;
            std::memcpy(&bits, numbers + word * SIDE<Number>, sizeof bits);
            here[word * WIDE * LANES] = !there ? 0 : SHORT<Number> ? bits : bits ^ (int32_t)0x80808080;
        }
        codes.aside[first + bundle * LANES + place] = sizes.square[0] / -2;
        most = most < sizes.lost[0] ? sizes.lost[0] : most;
    }
    return most;
}

// The offsets in products of steps; minus infinity becomes the lowest integer.
SCREEN_TARGET static void round_offsets(const float *offsets, int64_t count, float product, int32_t *steps)
{
    const float scale = 1 / product;
#pragma omp simd
    for (int64_t code = 0; code < count; code++) {
        const float exact = offsets[code] * scale;
        steps[code] = (int32_t)(exact < -0x1p31f ? -0x1p31f : exact);
    }
}

// The largest scores of the units of `groups` groups, for ROWS vectors: [ROWS, stride], of which the rest is filled up.
template <typename Number>
SCREEN_TARGET static void integer_scores(
    const int32_t *vectors, int64_t dim, const int32_t *codes, const int32_t *offsets, int64_t groups, int64_t stride,
    Ints *largest)
{
    const int64_t words = words_of<Number>(dim);
    for (int64_t group = 0; group < groups; group++) {
        Ints best[ROWS];
        for (int row = 0; row < ROWS; row++)
            best[row] = Ints{} + INT32_MIN;
        for (int bundle = 0; bundle < DEPTH / WIDE; bundle++) {
            Ints sum[ROWS][WIDE];
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    sum[row][reg] = *(const Ints *)(offsets + reg * LANES);
            for (int64_t word = 0; word < words; word++) {
                Ints here[WIDE];
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    here[reg] = *(const Ints *)(codes + (word * WIDE + reg) * LANES);
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                    for (int reg = 0; reg < WIDE; reg++)
                        sum[row][reg] =
                            with_products<Number>(sum[row][reg], here[reg], Ints{} + vectors[row * words + word]);
            }
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    best[row] = best[row] < sum[row][reg] ? sum[row][reg] : best[row];
            codes += words * WIDE * LANES;
            offsets += WIDE * LANES;
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
            largest[row * stride + group] = best[row];
    }
    for (int row = 0; row < ROWS; row++)
        std::fill(largest + row * stride + groups, largest + (row + 1) * stride, Ints{} + INT32_MIN);
}

}  // namespace VARIANT
