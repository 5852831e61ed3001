// Scores in integers of 16 bits, whose sums of products take half as long as those of floats: nearest.cpp
// includes this, by way of group.h, for each instruction set that has them.
//
// Vectors and codes are rounded to whole steps, so chosen that the longest vector z and the longest code e
// are RANGE steps long, or less. Then no sum overflows: |z e| + |e|^2 / 2 <= 3/2 RANGE^2 < 2^31 by Cauchy and
// Schwarz, and likewise over a part of the dimensions. What is rounded is off by half a step per dimension.
//
// A unit is DEPTH codes that follow one another, and a group is LANES units. Only the largest score of each
// unit is kept: codes are laid out so that each lane runs through a unit of its own. Dimensions lie in pairs,
// as they are multiplied; an odd one is filled up with zeros.
//
// It needs, beside what group.h does, SCREEN_TARGET (the attribute) and PAIRS(sums, a, b) (the sums plus the
// products of pairs of integers).

namespace VARIANT {

constexpr int DEPTH = 16, GROUP = LANES * DEPTH;
// Registers of codes for which sums are kept, beside ROWS vectors.
constexpr int WIDE = 2;
// Integers in them.
constexpr int BUNDLE = WIDE * LANES * 2;

static int64_t shorts(int64_t dim) { return dim + dim % 2; }

// Round [count, dim] numbers to whole steps; `scale` is steps to one.
SCREEN_TARGET static void quantize(const float *values, int64_t count, int64_t dim, float scale, int16_t *steps)
{
    const int64_t even = dim + dim % 2;
    for (int64_t row = 0; row < count; row++) {
#pragma omp simd
        for (int64_t d = 0; d < dim; d++) {
            const float exact = values[row * dim + d] * scale;
            steps[row * even + d] = (int16_t)(int32_t)(exact + (exact < 0 ? -0.5f : 0.5f));
        }
        if (even > dim)
            steps[row * even + dim] = 0;
    }
}

// The offsets in products of steps; minus infinity becomes the lowest integer.
SCREEN_TARGET static void quantize_offsets(const float *offsets, int64_t count, float scale, int32_t *steps)
{
#pragma omp simd
    for (int64_t code = 0; code < count; code++) {
        const float exact = offsets[code] * scale;
        steps[code] = (int32_t)(exact < -0x1p31f ? -0x1p31f : exact);
    }
}

// Lay out a group of the codes [k, dim] and its offsets; there is room for a code on the way.
SCREEN_TARGET static void pack_group(const float *vectors, int64_t group, const Codes &codes, int16_t *room)
{
    const int64_t dim = codes.dim, pairs = (dim + 1) / 2, first = group * GROUP;
    int16_t *integers = codes.shorts + first * pairs * 2;
    float *offsets = codes.aside + first;
    for (int64_t code = 0; code < GROUP; code++) {
        const int64_t bundle = code % DEPTH / WIDE, place = code % WIDE * LANES + code / DEPTH;
        // What fills up the last group: zeros, with an offset below all scores.
        const bool there = first + code < codes.k;
        offsets[bundle * WIDE * LANES + place] = there ? codes.offsets[first + code] : -INFINITY;
        if (there)
            quantize(vectors + (first + code) * dim, 1, dim, (float)(RANGE / codes.longest), room);
        else
            std::memset(room, 0, pairs * 2 * sizeof *room);
        for (int64_t pair = 0; pair < pairs; pair++)
            std::memcpy(
                integers + (bundle * pairs + pair) * BUNDLE + place * 2, room + pair * 2, 2 * sizeof *room);
    }
}

// The largest scores of the units of `groups` groups, for ROWS vectors: [ROWS, groups].
SCREEN_TARGET static void integer_scores(
    const int16_t *vectors, int64_t dim, const int16_t *codes, const int32_t *offsets, int64_t groups,
    Ints *largest)
{
    const int64_t pairs = (dim + 1) / 2;
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
            for (int64_t pair = 0; pair < pairs; pair++) {
                Ints here[WIDE];
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    std::memcpy(&here[reg], codes + pair * BUNDLE + reg * LANES * 2, sizeof(Ints));
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++) {
                    int32_t both;
                    std::memcpy(&both, vectors + (row * pairs + pair) * 2, sizeof both);
#pragma GCC unroll 4
                    for (int reg = 0; reg < WIDE; reg++)
                        sum[row][reg] = PAIRS(sum[row][reg], Ints{} + both, here[reg]);
                }
            }
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    best[row] = best[row] < sum[row][reg] ? sum[row][reg] : best[row];
            codes += pairs * BUNDLE;
            offsets += WIDE * LANES;
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
            largest[row * groups + group] = best[row];
    }
}

}  // namespace VARIANT
