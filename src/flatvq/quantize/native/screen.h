// The search of group.h with most of the work in integers: included like integers.h, after it.
//
// The code that group.h finds is one of those whose integer score comes within a margin (margin.h) of the vector's
// largest. They are in few units, and only these units' scores are computed as group.h does. Where they are many,
// because codes lie closer together than steps, group.h searches.
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
constexpr int BITS = 64, SPAN = BITS / LANES;
// Vectors that have steps of one size.
constexpr int BLOCK = BLOCK_GROUPS * ROWS;

// Write the largest scores of spans of a vector's units, lane by lane, and return the largest of all.
SCREEN_TARGET static int32_t largest_of_spans(const Ints *units, int64_t count, Ints *spans)
{
    Ints highest = Ints{} + INT32_MIN;
    for (int64_t span = 0; span < count; span++, units += SPAN) {
        Ints most = units[0];
#pragma GCC unroll 8
        for (int group = 1; group < SPAN; group++)
            most = most < units[group] ? units[group] : most;
        spans[span] = most;
        highest = highest < most ? most : highest;
    }
    const int32_t *lanes = (const int32_t *)&highest;
    int32_t largest = INT32_MIN;
#pragma omp simd reduction(max : largest)
    for (int lane = 0; lane < LANES; lane++)
        largest = largest < lanes[lane] ? lanes[lane] : largest;
    return largest;
}

// A span of units, beside one vector of a few.
struct Near {
    int row, span;
};

// List the units of ROWS vectors, in `count` spans each of `stride`, that have the least scores that are asked for, or
// more: all, or `most` and up to BITS - 1 more. Without branches that could not be foreseen, but for spans with several.
SCREEN_TARGET static int64_t passing(
    const Ints *units, const Ints *spans, int count, int64_t stride, const Ints &least, int64_t first, Near *near,
    Unit *list, int64_t most)
{
    int64_t spans_near = 0, passed = 0;
    for (int row = 0; row < ROWS; row++)
        for (int span = 0; span < count; span++) {
            near[spans_near] = {row, span};
            spans_near += INTS_AT_LEAST(spans[row * stride + span], Ints{} + least[row]) != 0;
        }
    for (int64_t i = 0; i < spans_near && passed < most; i++) {
        const auto [row, span] = near[i];
        uint64_t found = 0;
#pragma GCC unroll 8
        for (int group = 0; group < SPAN; group++)
            found |= (uint64_t)(unsigned)INTS_AT_LEAST(
                         units[(row * stride + span) * SPAN + group], Ints{} + least[row])
                     << group * LANES;
        do
            list[passed++] = {row, (first + span * BITS + __builtin_ctzll(found)) * DEPTH};
        while (found &= found - 1);
    }
    return passed;
}

// The bits of the lanes that are not below a number.
SCREEN_TARGET static inline unsigned lanes_at_least(const Floats *registers, int count, float least)
{
    unsigned found = 0;
    for (int i = 0; i < count; i++)
        found |= (unsigned)AT_LEAST(registers[i], Floats{} + least) << i * LANES;
    return found;
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
            // Without branches, which could not be foreseen.
            float &score = scores[unit[i]->row];
            int64_t &found = nearest[unit[i]->row];
            const float largest = folded<LARGEST, PARTS * LANES>((const float *)sum[i]);
            const int64_t code = unit[i]->code + __builtin_ctz(lanes_at_least(sum[i], PARTS, largest));
            const int64_t better = -(int64_t)(score < largest);
            found += (code - found) & better;
            score = score < largest ? largest : score;
        }
    }
}

// The size of a step for vectors [count, dim]: for integers of 16 bits by the longest, for others by the largest value.
template <typename Number> SCREEN_TARGET static float step_of_vectors(const float *vectors, int64_t count, int64_t dim)
{
    float most = 0;
    if (!SHORT<Number>) {
        const int32_t bits = largest(vectors, count * dim);
        std::memcpy(&most, &bits, sizeof most);
        return most / RANGE<Number>;
    }
    for (int64_t row = 0; row < count; row++) {
        float square = 0;
#pragma omp simd reduction(+ : square)
        for (int64_t d = 0; d < dim; d++)
            square += vectors[row * dim + d] * vectors[row * dim + d];
        most = most < square ? square : most;
    }
    return std::sqrt(most) / RANGE<Number>;
}

// What is needed for a block of vectors: a place for each thing, and the bytes of all.
template <typename Number> struct Room {
    int64_t part, stride, most;
    int64_t offsets, largest, spans, near, units, size;

    explicit Room(const Codes &codes)
    {
        const int64_t taken = bytes<Number>(codes.dim), fit = CACHE / (taken * GROUP);
        part = fit < 1 ? 1 : fit < codes.groups ? fit : codes.groups;
        stride = (part + SPAN - 1) / SPAN;
        most = ROWS * (part * LANES / 16 + 2);
        // Integers of the last vector are written by a whole register.
        offsets = (BLOCK * taken + (int64_t)sizeof(Ints) + 63) / 64 * 64;
        largest = offsets + codes.groups * GROUP * sizeof(int32_t);
        spans = largest + ROWS * stride * SPAN * sizeof(Ints);
        near = spans + ROWS * stride * sizeof(Ints);
        units = near + ROWS * stride * sizeof(Near);
        size = (units + (most + BITS) * sizeof(Unit) + 63) / 64 * 64;
    }
};

template <typename Number> static int64_t room(const Codes &codes) { return Room<Number>(codes).size; }

// The least integer scores that come within the margin of the largest ones so far, for ROWS vectors.
template <typename Number>
SCREEN_TARGET static Ints least_scores(const Rounded &vectors, const Ints &top, const Codes &codes, float product)
{
    const Floats shift = SHORT<Number> ? Floats{} : 128.0f * vectors.sum;
    const Floats largest = __builtin_convertvector(top, Floats), score = (largest - shift) * product;
    const Floats steps = margin(vectors, score, codes, product) / product;
    // A few more for these numbers in float32.
    const Floats least = largest - steps - 1.0f - 0x1p-22f * GREATER(largest, -largest);
    // What fills up the last group stays below.
    return __builtin_convertvector(GREATER(least, Floats{} - 0x1.fffffep30f), Ints);
}

// As Search::plain, but return for how many vectors that searched.
template <typename Number>
SCREEN_TARGET static int64_t screen(const Search &search, int64_t begin, int64_t end, char *memory)
{
    const Codes &codes = search.codes;
    const Room<Number> room(codes);
    const int64_t dim = codes.dim, words = words_of<Number>(dim);
    int32_t *integers = (int32_t *)memory, *offsets = (int32_t *)(memory + room.offsets);
    Ints *largest = (Ints *)(memory + room.largest), *spans = (Ints *)(memory + room.spans);
    Near *near = (Near *)(memory + room.near);
    Unit *units = (Unit *)(memory + room.units);
    // After a failure the next `pause` times ROWS vectors go without.
    int pause = 0, wait = 0;
    int64_t without = 0;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int64_t stop = end - start < BLOCK ? end : start + BLOCK;
        const float *vectors = search.vectors + start * dim;
        const float step_of_code = step_of_codes<Number>(codes);
        const float step = std::max(step_of_code, step_of_vectors<Number>(vectors, stop - start, dim));
        if (!(codes.moderate() && step * RANGE<Number> <= LONGEST)) {
            search.plain(start, stop);
            without += stop - start;
            continue;
        }
        const float product = step * step_of_code;
        round_offsets(codes.aside, codes.groups * GROUP, product, offsets);
        Rounded rounded[BLOCK_GROUPS] = {};
        Ints tops[BLOCK_GROUPS];
        bool left[BLOCK_GROUPS] = {};
        for (int64_t row = 0; row < stop - start; row++)
            round_values<Number>(
                vectors + row * dim, dim, step, (Number *)(integers + row * words), rounded[row / ROWS],
                (int)(row % ROWS));
        std::fill(tops, tops + BLOCK_GROUPS, Ints{} + INT32_MIN);
        for (int64_t first = 0; first < codes.groups; first += room.part) {
            const int64_t groups = codes.groups - first < room.part ? codes.groups - first : room.part;
            const int count_of_spans = (int)((groups + SPAN - 1) / SPAN);
            for (int64_t at = 0; at < stop - start; at += ROWS) {
                bool &failed = left[at / ROWS];
                if (wait && !failed) {
                    failed = true;
                    wait--;
                }
                if (failed)
                    continue;
                integer_scores<Number>(
                    integers + at * words, dim, (const int32_t *)codes.rounded + first * GROUP * words,
                    offsets + first * GROUP, groups, room.stride * SPAN, largest);
                Ints &top = tops[at / ROWS];
                for (int row = 0; row < ROWS; row++)
                    top[row] = std::max<int32_t>(
                        top[row], largest_of_spans(
                                      largest + row * room.stride * SPAN, count_of_spans, spans + row * room.stride));
                const Ints least = least_scores<Number>(rounded[at / ROWS], top, codes, product);
                const int64_t count = passing(
                    largest, spans, count_of_spans, room.stride, least, first * LANES, near, units, room.most);
                failed = count >= room.most;
                if (failed)
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
            if (left[at / ROWS]) {
                search.plain(start + at, start + at + ROWS);
                without += ROWS;
            }
    }
    return without;
}

}  // namespace VARIANT
