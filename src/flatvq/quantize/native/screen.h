// The search of group.h with most of the work in integers: included like integers.h, after it.
//
// No score in integers is further than half of the margin from the one that group.h computes. So the code that
// group.h finds is one of those whose integer score comes within the margin of the vector's largest. They are
// in few units, and only these units' scores are computed as group.h does. Where they are many, because codes
// lie closer together than steps, group.h searches.
//
// It needs, beside what integers.h does, AT_LEAST and INTS_AT_LEAST (the bits of an integer tell in which lanes
// the first of two registers is not below the second).

namespace VARIANT {

// Codes that follow one another, from `code` on, beside one vector of a few.
struct Unit {
    int row;
    int64_t code;
};

// Groups that are passed over at a time: as many as have their units in the bits of an integer.
constexpr int SPAN = 64 / LANES;
// Vectors that have steps of one size.
constexpr int BLOCK = BLOCK_GROUPS * ROWS;

// The units of a vector that come within the margin of its largest integer score so far, `top`.
SCREEN_TARGET static int64_t passing(
    const Ints *largest_of_units, int64_t groups, int32_t margin, int row, int64_t first, int32_t &top, Ints *spans,
    Unit *units, int64_t most)
{
    Ints highest = Ints{} + top;
    for (int64_t start = 0; start < groups; start += SPAN) {
        Ints span = largest_of_units[start];
        for (int64_t group = start + 1; group < start + SPAN && group < groups; group++)
            span = span < largest_of_units[group] ? largest_of_units[group] : span;
        spans[start / SPAN] = span;
        highest = highest < span ? span : highest;
    }
    const int32_t *lanes = (const int32_t *)&highest;
    int32_t largest = top;
#pragma omp simd reduction(max : largest)
    for (int lane = 0; lane < LANES; lane++)
        largest = largest < lanes[lane] ? lanes[lane] : largest;
    top = largest;
    const Ints least = Ints{} + (largest - margin);
    int64_t count = 0;
    for (int64_t start = 0; start < groups; start += SPAN) {
        if (!INTS_AT_LEAST(spans[start / SPAN], least))
            continue;
        uint64_t found = 0;
        for (int64_t group = start; group < start + SPAN && group < groups; group++)
            found |= (uint64_t)(unsigned)INTS_AT_LEAST(largest_of_units[group], least) << (group - start) * LANES;
        for (; found && count < most; found &= found - 1)
            units[count++] = {row, (first + start * LANES + __builtin_ctzll(found)) * DEPTH};
    }
    return count;
}

// Compute the scores of units of codes as group.h does, in the order in which they are given, the first of
// equals first.
SCREEN_TARGET static void exact_scores(
    const Codes &packed, const float *vectors, const Unit *units, int64_t count, float *scores,
    int64_t *nearest)
{
    const int64_t dim = packed.dim;
    constexpr int PARTS = DEPTH / LANES, AT_ONCE = 4;
    for (int64_t begin = 0; begin < count; begin += AT_ONCE) {
        // Several at once, for a chain of multiply-adds mostly waits; the last one fills up what is left.
        const Unit *unit[AT_ONCE];
        const float *vector[AT_ONCE], *codes[AT_ONCE];
        Floats sum[AT_ONCE][PARTS];
#pragma GCC unroll 8
        for (int i = 0; i < AT_ONCE; i++) {
            unit[i] = units + (begin + i < count ? begin + i : count - 1);
            vector[i] = vectors + unit[i]->row * dim;
            codes[i] = packed.panels + unit[i]->code / PANEL * PANEL * dim + unit[i]->code % PANEL;
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++)
                sum[i][part] = *(const Floats *)(packed.offsets + unit[i]->code + part * LANES);
        }
        for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
            for (int i = 0; i < AT_ONCE; i++)
#pragma GCC unroll 4
                for (int part = 0; part < PARTS; part++)
                    sum[i][part] += vector[i][d] * *(const Floats *)(codes[i] + d * PANEL + part * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < AT_ONCE; i++) {
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
                where |= (unsigned)AT_LEAST(sum[i][part], Floats{} + largest) << part * LANES;
            scores[row] = largest;
            nearest[row] = unit[i]->code + __builtin_ctz(where);
        }
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
        most = most < square ? square : most;
    }
    return most;
}

// What is needed for a block of vectors: a place for each thing, and the bytes of all.
struct Room {
    int64_t part, most;
    int64_t offsets, largest, spans, units, size;

    explicit Room(const Codes &codes)
    {
        const int64_t even = codes.dim + codes.dim % 2, fit = CACHE / (int64_t)(even * GROUP * sizeof(int16_t));
        part = fit < 1 ? 1 : fit < codes.groups ? fit : codes.groups;
        most = ROWS * (part * LANES / 16 + 2);
        offsets = (BLOCK * even * sizeof(int16_t) + 63) / 64 * 64;
        largest = offsets + codes.groups * GROUP * sizeof(int32_t);
        spans = largest + ROWS * part * sizeof(Ints);
        units = spans + (part / SPAN + 1) * sizeof(Ints);
        size = (units + most * sizeof(Unit) + 63) / 64 * 64;
    }
};

static int64_t room(const Codes &codes) { return Room(codes).size; }

// As Search::plain, but return for how many vectors that searched.
static int64_t screen(const Search &search, int64_t begin, int64_t end, char *memory)
{
    const Codes &codes = search.codes;
    const Room room(codes);
    const int64_t dim = codes.dim, even = dim + dim % 2;
    int16_t *integers = (int16_t *)memory;
    int32_t *offsets = (int32_t *)(memory + room.offsets);
    Ints *largest = (Ints *)(memory + room.largest), *spans = (Ints *)(memory + room.spans);
    Unit *units = (Unit *)(memory + room.units);
    const int32_t allowed = margin(dim);
    // After a failure the next `pause` times ROWS vectors go without.
    int pause = 0, wait = 0;
    int64_t without = 0;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int64_t stop = end - start < BLOCK ? end : start + BLOCK;
        const float *vectors = search.vectors + start * dim;
        const double length = std::sqrt((double)longest(vectors, stop - start, dim));
        const double most = length < codes.longest ? codes.longest : length;
        if (!(codes.longest >= SHORTEST && most <= LONGEST)) {
            search.plain(start, stop);
            without += stop - start;
            continue;
        }
        quantize(vectors, stop - start, dim, (float)(RANGE / most), integers);
        quantize_offsets(
            codes.aside, codes.groups * GROUP, (float)(RANGE / most * (RANGE / codes.longest)), offsets);
        int32_t tops[BLOCK];
        bool left[BLOCK] = {};
        for (int32_t &top : tops)
            top = INT32_MIN;
        for (int64_t first = 0; first < codes.groups; first += room.part) {
            const int64_t groups = codes.groups - first < room.part ? codes.groups - first : room.part;
            for (int64_t at = 0; at < stop - start; at += ROWS) {
                if (wait && !left[at]) {
                    left[at] = true;
                    wait--;
                }
                if (left[at])
                    continue;
                integer_scores(
                    integers + at * even, dim, codes.shorts + first * GROUP * even, offsets + first * GROUP,
                    groups, largest);
                int64_t count = 0;
                for (int row = 0; row < ROWS; row++)
                    count += passing(
                        largest + row * groups, groups, allowed, row, first * LANES, tops[at + row], spans,
                        units + count, room.most - count);
                left[at] = count == room.most;
                if (left[at])
                    wait = pause = pause < 128 ? 2 * pause + 1 : pause;
                else {
                    pause = 0;
                    exact_scores(
                        codes, vectors + at * dim, units, count, search.scores + start + at,
                        search.nearest + start + at);
                }
            }
        }
        for (int64_t at = 0; at < stop - start; at += ROWS)
            if (left[at]) {
                search.plain(start + at, start + at + ROWS);
                without += ROWS;
            }
    }
    return without;
}

}  // namespace VARIANT
