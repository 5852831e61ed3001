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
constexpr int SPAN = 64 / LANES;
// Vectors that have steps of one size.
constexpr int BLOCK = BLOCK_GROUPS * ROWS;

// Write the largest scores of spans of a vector's units, lane by lane, and return the largest of all.
SCREEN_TARGET static int32_t largest_of_spans(const Ints *units, int64_t groups, Ints *spans)
{
    Ints highest = Ints{} + INT32_MIN;
    for (int64_t start = 0; start < groups; start += SPAN) {
        Ints span = units[start];
        for (int64_t group = start + 1; group < start + SPAN && group < groups; group++)
            span = span < units[group] ? units[group] : span;
        spans[start / SPAN] = span;
        highest = highest < span ? span : highest;
    }
    const int32_t *lanes = (const int32_t *)&highest;
    int32_t largest = INT32_MIN;
#pragma omp simd reduction(max : largest)
    for (int lane = 0; lane < LANES; lane++)
        largest = largest < lanes[lane] ? lanes[lane] : largest;
    return largest;
}

// List a vector's units that have a score of `least` or more.
SCREEN_TARGET static int64_t passing(
    const Ints *units, const Ints *spans, int64_t groups, int32_t least, int row, int64_t first, Unit *list,
    int64_t most)
{
    constexpr int BITS = 64;
    int64_t count = 0;
    for (int64_t begin = 0; begin < groups; begin += BITS * SPAN) {
        // First which spans, without branches, which could not be foreseen.
        uint64_t near = 0;
        for (int64_t bit = 0; bit < BITS && begin + bit * SPAN < groups; bit++)
            near |= (uint64_t)(INTS_AT_LEAST(spans[begin / SPAN + bit], Ints{} + least) != 0) << bit;
        for (; near && count < most; near &= near - 1) {
            const int64_t start = begin + __builtin_ctzll(near) * SPAN;
            uint64_t found = 0;
            for (int64_t group = start; group < start + SPAN && group < groups; group++)
                found |= (uint64_t)(unsigned)INTS_AT_LEAST(units[group], Ints{} + least) << (group - start) * LANES;
            for (; found && count < most; found &= found - 1)
                list[count++] = {row, (first + start * LANES + __builtin_ctzll(found)) * DEPTH};
        }
    }
    return count;
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
    int64_t part, most;
    int64_t offsets, largest, spans, units, size;

    explicit Room(const Codes &codes)
    {
        const int64_t taken = bytes<Number>(codes.dim), fit = CACHE / (taken * GROUP);
        part = fit < 1 ? 1 : fit < codes.groups ? fit : codes.groups;
        most = ROWS * (part * LANES / 16 + 2);
        // Integers of the last vector are written by a whole register.
        offsets = (BLOCK * taken + (int64_t)sizeof(Ints) + 63) / 64 * 64;
        largest = offsets + codes.groups * GROUP * sizeof(int32_t);
        spans = largest + ROWS * part * sizeof(Ints);
        units = spans + ROWS * (part / SPAN + 1) * sizeof(Ints);
        size = (units + most * sizeof(Unit) + 63) / 64 * 64;
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
    Unit *units = (Unit *)(memory + room.units);
    const int64_t spans_of_row = room.part / SPAN + 1;
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
                    offsets + first * GROUP, groups, largest);
                Ints &top = tops[at / ROWS];
                for (int row = 0; row < ROWS; row++)
                    top[row] = std::max<int32_t>(
                        top[row], largest_of_spans(largest + row * groups, groups, spans + row * spans_of_row));
                const Ints least = least_scores<Number>(rounded[at / ROWS], top, codes, product);
                int64_t count = 0;
                for (int row = 0; row < ROWS; row++)
                    count += passing(
                        largest + row * groups, spans + row * spans_of_row, groups, least[row], row, first * LANES,
                        units + count, room.most - count);
                failed = count == room.most;
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
