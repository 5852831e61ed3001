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

// Groups that are passed over at a time.
constexpr int SPAN = 8;

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

// Lay out a group, of the `count` codes that are left of the codebook, and its offsets; `steps` has room for a
// code.
SCREEN_TARGET static void pack_group(
    const float *codes, const float *offsets, int64_t count, int64_t dim, float scale, int16_t *steps,
    int16_t *panels, float *halves)
{
    const int64_t pairs = (dim + 1) / 2;
    for (int64_t code = 0; code < GROUP && code < count; code++) {
        quantize(codes + code * dim, 1, dim, scale, steps);
        const int64_t start = code % DEPTH / WIDE * WIDE * LANES, place = code % WIDE * LANES + code / DEPTH;
        halves[start + place] = offsets[code];
        for (int64_t pair = 0; pair < pairs; pair++)
            std::memcpy(panels + (start * pairs + pair * WIDE * LANES + place) * 2, steps + pair * 2, 4);
    }
    // What fills up the last group stays zero, with an offset that no sum of integers reaches.
    for (int64_t code = count; code < GROUP; code++)
        halves[code % DEPTH / WIDE * WIDE * LANES + code % WIDE * LANES + code / DEPTH] = -INFINITY;
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
    const Ints *maxima, int64_t groups, int32_t margin, int row, int64_t first, int32_t &top, Ints *spans,
    Unit *units, int64_t most)
{
    // Nearly all units are passed over SPAN groups at a time.
    Ints highest = Ints{} + top;
    for (int64_t start = 0; start < groups; start += SPAN) {
        const int64_t stop = groups - start < SPAN ? groups : start + SPAN;
        Ints span = maxima[start];
        for (int64_t group = start + 1; group < stop; group++)
            span = span < maxima[group] ? maxima[group] : span;
        spans[start / SPAN] = span;
        highest = highest < span ? span : highest;
    }
    for (int lane = 0; lane < LANES; lane++)
        top = top < highest[lane] ? highest[lane] : top;
    const int32_t lowest = top - margin;
    int64_t count = 0;
    for (int64_t start = 0; start < groups; start += SPAN) {
        if (!BITS(spans[start / SPAN] >= lowest))
            continue;
        const int64_t stop = groups - start < SPAN ? groups : start + SPAN;
        for (int64_t group = start; group < stop; group++)
            for (unsigned lanes = BITS(maxima[group] >= lowest); lanes && count < most; lanes &= lanes - 1)
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
            float largest = scores[row];
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++)
#pragma GCC unroll 16
                for (int lane = 0; lane < LANES; lane++)
                    largest = largest < sum[i][part][lane] ? sum[i][part][lane] : largest;
            if (!(scores[row] < largest))
                continue;
            unsigned where = 0;
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++)
                where |= (unsigned)BITS(sum[i][part] == largest) << part * LANES;
            scores[row] = largest;
            nearest[row] = unit[i]->code + __builtin_ctz(where);
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
            largest + row * groups, groups, margin, row, first, tops[row], largest + ROWS * groups,
            units + count, most - count);
    if (count == most)
        return false;
    exact_scores(vectors, dim, panels, offsets, units, count, scores, nearest);
    return true;
}

}  // namespace VARIANT
