// The same nearest codes with most of the work in integers of 16 bits, whose sums of products take half as
// long: nearest.cpp includes this, by way of group.h, for each instruction set that has them.
//
// Vectors and codes are rounded to whole steps, and their scores are sums of integers, exact ones. No such
// score is further than half of margin() from the score that group.h computes. So the code that group.h finds
// is one of those whose integer score comes within margin() of the vector's largest, and they are few: only
// their scores are computed as group.h does.
//
// Steps are chosen for the longest vector z and the longest code e: each of them is RANGE steps long, or less.
// Then no sum overflows: by Cauchy and Schwarz |z e| + |e|^2 / 2 <= 3/2 RANGE^2 < 2^31, up to any dimension.
//
// A unit is DEPTH codes that follow one another, a group LANES units. Of each unit only the largest integer
// score is kept: a group's codes are laid out so that each lane runs through a unit of its own. Dimensions
// lie in pairs, as they are multiplied; an odd one is filled up with zeros.
//
// It defines nothing but needs, beside what group.h does, SCREEN_TARGET (the attribute), PAIRS(sums, a, b)
// (the sums plus products of pairs), and BITS(mask) (the lanes of a mask as the bits of an integer).

namespace VARIANT {

constexpr int DEPTH = 16, GROUP = LANES * DEPTH;
// Registers of codes for which sums are kept, beside ROWS vectors.
constexpr int WIDE = 2;

// Round [count, dim] numbers to whole steps.
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

// The square of the longest vector's length.
SCREEN_TARGET static float longest(const float *vectors, int64_t count, int64_t dim)
{
    float most = 0;
    for (int64_t row = 0; row < count; row++) {
        float square = 0;
#pragma omp simd reduction(+ : square)
        for (int64_t d = 0; d < dim; d++)
            square += vectors[row * dim + d] * vectors[row * dim + d];
        most = square <= most ? most : square;  // a NaN stays
    }
    return most;
}

// The offsets in steps; minus infinity becomes the lowest integer.
SCREEN_TARGET static void scale_offsets(const float *offsets, int64_t count, float scale, int32_t *scaled)
{
#pragma omp simd
    for (int64_t code = 0; code < count; code++) {
        const float exact = offsets[code] * scale;
        scaled[code] = (int32_t)(exact < -0x1p31f ? -0x1p31f : exact);
    }
}

// Lay out a group of codes [count, dim] that are left of the codebook, GROUP of them or fewer, and their offsets.
static void pack_group(
    const float *codes, const float *offsets, int64_t count, int64_t dim, float scale, int16_t *panels,
    float *halves)
{
    const int64_t even = dim + dim % 2;
    for (int64_t code = 0; code < GROUP; code++) {
        const int64_t lane = code / DEPTH, step = code % DEPTH;
        const int64_t place = step % WIDE * LANES + lane, start = step / WIDE * WIDE * LANES;
        int16_t *column = panels + start * even + place * 2;
        halves[start + place] = code < count ? offsets[code] : -INFINITY;
        for (int64_t d = 0; d < dim; d++) {
            const float exact = code < count ? codes[code * dim + d] * scale : 0;
            column[d / 2 * WIDE * LANES * 2 + d % 2] = (int16_t)(exact + (exact < 0 ? -0.5f : 0.5f));
        }
        if (even > dim)
            column[dim / 2 * WIDE * LANES * 2 + 1] = 0;
    }
}

// The largest integer scores of `groups` groups' units: [ROWS, groups, LANES].
SCREEN_TARGET static void integer_scores(
    const int16_t *steps, int64_t pairs, const int16_t *panels, const int32_t *offsets, int64_t groups,
    Ints *maxima)
{
    for (int64_t group = 0; group < groups; group++) {
        Ints best[ROWS];
        for (int row = 0; row < ROWS; row++)
            best[row] = Ints{} + INT32_MIN;
        for (int step = 0; step < DEPTH; step += WIDE) {
            Ints sum[ROWS][WIDE];
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    sum[row][reg] = *(const Ints *)(offsets + reg * LANES);
            for (int64_t pair = 0; pair < pairs; pair++) {
                Ints codes[WIDE];
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    std::memcpy(&codes[reg], panels + (pair * WIDE + reg) * LANES * 2, sizeof(Ints));
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++) {
                    int32_t both;
                    std::memcpy(&both, steps + (row * pairs + pair) * 2, sizeof both);
#pragma GCC unroll 4
                    for (int reg = 0; reg < WIDE; reg++)
                        sum[row][reg] = PAIRS(sum[row][reg], Ints{} + both, codes[reg]);
                }
            }
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                for (int reg = 0; reg < WIDE; reg++)
                    best[row] = best[row] < sum[row][reg] ? sum[row][reg] : best[row];
            panels += pairs * WIDE * LANES * 2;
            offsets += WIDE * LANES;
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
            maxima[row * groups + group] = best[row];
    }
}

// The units of a vector that come within the margin of its largest integer score so far, `top`.
SCREEN_TARGET static int64_t passing(
    const Ints *maxima, int64_t groups, int32_t margin, int row, int64_t first, int32_t &top, Unit *units,
    int64_t most)
{
    Ints highest = Ints{} + top;
    for (int64_t group = 0; group < groups; group++)
        highest = highest < maxima[group] ? maxima[group] : highest;
    for (int lane = 0; lane < LANES; lane++)
        top = top < highest[lane] ? highest[lane] : top;
    int64_t count = 0;
    for (int64_t group = 0; group < groups; group++) {
        unsigned lanes = BITS(maxima[group] >= top - margin);
        for (; lanes && count < most; lanes &= lanes - 1)
            units[count++] = {row, (first + group * LANES + __builtin_ctz(lanes)) * DEPTH};
    }
    return count;
}

// Compute the scores of units of codes as group.h does, in the order in which they are given, the first of
// equals first.
SCREEN_TARGET static void exact_scores(
    const float *vectors, int64_t dim, const float *panels, const float *offsets, const Unit *units,
    int64_t count, float *scores, int64_t *nearest)
{
    constexpr int PARTS = DEPTH / LANES;
    for (int64_t begin = 0; begin < count; begin += ROWS) {
        // Several at once, for a chain of multiply-adds mostly waits; the last one fills up what is left.
        const Unit *unit[ROWS];
        const float *vector[ROWS], *codes[ROWS];
        Floats sum[ROWS][PARTS];
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            unit[i] = units + (begin + i < count ? begin + i : count - 1);
            vector[i] = vectors + unit[i]->row * dim;
            codes[i] = panels + unit[i]->code / PANEL * PANEL * dim + unit[i]->code % PANEL;
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++)
                sum[i][part] = *(const Floats *)(offsets + unit[i]->code + part * LANES);
        }
        for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
                for (int part = 0; part < PARTS; part++)
                    sum[i][part] += vector[i][d] * *(const Floats *)(codes[i] + d * PANEL + part * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            const int row = unit[i]->row;
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++) {
                unsigned better = BITS(sum[i][part] > scores[row]);
                for (; better; better &= better - 1) {
                    const int lane = __builtin_ctz(better);
                    if (scores[row] < sum[i][part][lane]) {
                        scores[row] = sum[i][part][lane];
                        nearest[row] = unit[i]->code + part * LANES + lane;
                    }
                }
            }
        }
    }
}

// Search for ROWS vectors; false if so many units come within the margin that it would not pay.
SCREEN_TARGET static bool screen(
    const float *vectors, const int16_t *steps, int64_t dim, const float *panels, const float *offsets,
    const int16_t *integers, const int32_t *halves, int64_t groups, int32_t margin, int64_t first,
    int32_t *tops, int32_t *maxima, Unit *units, int64_t most, float *scores, int64_t *nearest)
{
    Ints *largest = (Ints *)maxima;
    integer_scores(steps, (dim + 1) / 2, integers, halves, groups, largest);
    int64_t count = 0;
    for (int row = 0; row < ROWS; row++)
        count += passing(
            largest + row * groups, groups, margin, row, first, tops[row], units + count, most - count);
    if (count == most)
        return false;
    exact_scores(vectors, dim, panels, offsets, units, count, scores, nearest);
    return true;
}

}  // namespace VARIANT
