// The search of group.h with most of the work in tiles, the matrices that AMX multiplies: included like screen.h,
// after it.
//
// Vectors and codes are rounded to bfloat16, numbers of 8 bits of precision whose products float32 holds exactly. A
// row of codes is [e | offset], the offset in two such numbers, and a column of vectors [z | 1 1]: their product is the
// score z e - |e|^2 / 2. No score is further than half of the margin from the one that group.h computes, so with the
// scores that come within the margin of a vector's largest it goes on as in screen.h. It is wider than that of
// integers, but how much rounding took off is known.
//
// A unit is the codes of a tile, and of its scores only the largest is kept.
//
// It needs, beside what screen.h does, TILE_TARGET (the attribute).

namespace VARIANT {

// Rows of a tile; numbers of 16 bits in a row; and all of a tile's.
constexpr int TILE = 16, SLOTS = 32, TILE_SIZE = TILE * SLOTS;
// Tiles of codes that are multiplied by as many of vectors at once: there are 8 tiles, and 4 of them hold the scores.
constexpr int PAIR = 2;
// Tiles of vectors, and vectors in them, whose largest scores are kept for a span of units; and units in a span.
constexpr int COLUMNS = 8, BATCH = COLUMNS * TILE, SPAN_UNITS = 1024;
// Bytes of codes that stay in a core's first cache as tiles of vectors pass.
constexpr int64_t NEAR_CACHE = 24 << 10;

static_assert(DEPTH == TILE && LANES == TILE, "a unit is a tile of codes, and a register a row of scores");

// Numbers that a row begins with, and tiles side by side that it takes.
constexpr int64_t even(int64_t dim) { return dim + dim % 2; }
constexpr int64_t steps_of(int64_t dim) { return (even(dim) + 2 + SLOTS - 1) / SLOTS; }

static int64_t tile_shorts(int64_t dim) { return steps_of(dim) * SLOTS; }

// The bits of the nearest bfloat16, as those of a float.
template <typename Bits> static inline __attribute__((always_inline)) Bits rounded(const Bits &bits)
{
    return (bits + 0x7fff + (bits >> 16 & 1)) & ~0xffff;
}

// Split a number in the bits of the nearest bfloat16, and the rest.
static inline int32_t split(float value, float &rest)
{
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = rounded(bits);
    float nearest;
    std::memcpy(&nearest, &bits, sizeof nearest);
    rest = value - nearest;
    return bits;
}

// Lay out a pair of tiles of the codes [k, dim], and write the squares of what rounding takes off them.
TILE_TARGET static void pack_tiles(const float *vectors, int64_t pair, const Codes &codes, int16_t *)
{
    const int64_t dim = codes.dim, size = steps_of(dim) * TILE_SIZE;
    for (int64_t unit = pair * PAIR; unit < (pair + 1) * PAIR; unit++) {
        int16_t *tiles = codes.shorts + unit * size;
        std::memset(tiles, 0, size * sizeof *tiles);
        for (int64_t row = 0; row < TILE; row++) {
            const auto put = [&](int64_t slot, int32_t bits) {
                tiles[slot / SLOTS * TILE_SIZE + row * SLOTS + slot % SLOTS] = (int16_t)(bits >> 16);
            };
            const int64_t code = unit * TILE + row;
            // What fills up the last tiles: zeros, with an offset below all scores.
            if (code >= codes.k) {
                put(even(dim), INT32_MIN | INFINITE);
                codes.aside[code] = 0;
                continue;
            }
            float rest, lost = 0;
            for (int64_t d = 0; d < dim; d++) {
                put(d, split(vectors[code * dim + d], rest));
                lost += rest * rest;
            }
            codes.aside[code] = lost;
            put(even(dim), split(codes.offsets[code], rest));
            put(even(dim) + 1, split(rest, rest));
        }
    }
}

// Of each of a few vectors, the squares of its length and of that of what rounding takes off it.
struct Sizes {
    Floats square, lost;
};

// Lay out TILE vectors [count, dim], or fewer and zeros, as columns.
TILE_TARGET static Sizes pack_columns(const float *vectors, int64_t count, int64_t dim, int16_t *tiles)
{
    Ints *rows = (Ints *)tiles;
    Ints starts;
    for (int lane = 0; lane < TILE; lane++)
        starts[lane] = (int32_t)(lane * dim);
    const __mmask16 there = (__mmask16)((1u << count) - 1);
    Sizes sizes = {};
    for (int64_t d = 0; d < even(dim); d += 2) {
        // A dimension of all vectors, and the next.
        Ints pair[2] = {};
        for (int64_t i = 0; i < 2 && d + i < dim; i++) {
            const Floats exact = (Floats)_mm512_mask_i32gather_ps(
                _mm512_setzero_ps(), there, (__m512i)starts, vectors + d + i, sizeof(float));
            pair[i] = rounded((Ints)exact);
            const Floats rest = exact - (Floats)pair[i];
            sizes.square += exact * exact;
            sizes.lost += rest * rest;
        }
        rows[d / 2] = pair[1] | (pair[0] >> 16 & 0xffff);
    }
    rows[even(dim) / 2] = Ints{} + 0x3f803f80;  // two ones
    for (int64_t row = even(dim) / 2 + 1; row < steps_of(dim) * TILE; row++)
        rows[row] = Ints{};
    return sizes;
}

// The largest of a tile's rows, column by column.
TILE_TARGET static inline __attribute__((always_inline)) Floats largest_row(const float *tile)
{
    const Floats *rows = (const Floats *)tile;
    Floats most[4] = {rows[0], rows[1], rows[2], rows[3]};
#pragma GCC unroll 4
    for (int row = 4; row < TILE; row += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            most[i] = GREATER(most[i], rows[row + i]);
    return GREATER(GREATER(most[0], most[1]), GREATER(most[2], most[3]));
}

// The largest scores of the units of `pairs` pairs of tiles, for a pair of tiles of vectors: [units, COLUMNS], of which
// two columns are written.
TILE_TARGET static void tile_scores(
    const int16_t *vectors, int64_t steps, const int16_t *codes, int64_t pairs, float *scratch, Floats *largest)
{
    // Compilers may not know that tiles are loaded from what was written.
    asm volatile("" ::: "memory");
    // A tile is stored, and read again, only as the next scores are computed, so that the units for tiles and for
    // registers are busy at once. The first ones that are stored mean nothing, and others take their place. All are
    // stored in one place: loads whose addresses are equal to a store's but for multiples of 4,096 wait for it.
    Floats *out = largest;
#define NEXT(scores, codes, vectors, place)                                                                          \
    _tile_stored(scores, scratch, 64);                                                                               \
    _tile_zero(scores);                                                                                              \
    _tile_dpbf16ps(scores, codes, vectors);                                                                          \
    out[place] = largest_row(scratch);
    for (int64_t pair = 0; pair < pairs; pair++) {
        const int16_t *here = codes + pair * PAIR * steps * TILE_SIZE;
        for (int64_t step = 0; step < steps; step++) {
            if (steps > 1 || pair == 0) {
                _tile_loadd(6, vectors + step * TILE_SIZE, 64);
                _tile_loadd(7, vectors + (steps + step) * TILE_SIZE, 64);
            }
            _tile_loadd(4, here + step * TILE_SIZE, 64);
            _tile_loadd(5, here + (steps + step) * TILE_SIZE, 64);
            if (step == 0) {
                NEXT(0, 4, 6, 0)
                NEXT(1, 5, 6, COLUMNS)
                NEXT(2, 4, 7, 1)
                NEXT(3, 5, 7, COLUMNS + 1)
            } else {
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 5, 6);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        out = largest + pair * PAIR * COLUMNS;
    }
    NEXT(0, 4, 6, 0)
    NEXT(1, 5, 6, COLUMNS)
    NEXT(2, 4, 7, 1)
    NEXT(3, 5, 7, COLUMNS + 1)
#undef NEXT
}

// How far the score in tiles of the code that group.h finds can be below the largest one. `longest` is the length of
// the longest code, `lost` that of the most that rounding takes off one.
TILE_TARGET static Floats tile_margin(const Sizes &vectors, float longest, float lost, int64_t dim)
{
    const Floats length = (Floats)_mm512_sqrt_ps((__m512)vectors.square);
    const Floats lost_here = (Floats)_mm512_sqrt_ps((__m512)vectors.lost);
    // z e - (z - dz) (e - de) = dz e + (z - dz) de, and what two numbers leave out of an offset.
    const Floats split = lost_here * longest + length * lost + 0x1p-17f * longest * longest;
    // Here and in group.h a rounding for each number that is added, and a few more; and what is below the least normal
    // number counts as zero here, which is far less.
    const Floats sums = (float)(3 * dim + 16) * 0x1p-24f * longest * (length + longest);
    // For each of two scores, and some hundredths more for what is computed of lengths.
    return 1.02f * 2 * (split + sums);
}

// What is needed for a batch of vectors: a place for each thing, and the bytes of all.
struct TileRoom {
    int64_t units, most;
    int64_t scratch, largest, list, size;

    explicit TileRoom(const Codes &codes)
    {
        units = codes.groups * PAIR < SPAN_UNITS ? codes.groups * PAIR : SPAN_UNITS;
        most = BATCH * (units / 16 + 2);
        scratch = BATCH * tile_shorts(codes.dim) * sizeof(int16_t);
        largest = scratch + TILE * TILE * sizeof(float);
        list = largest + COLUMNS * units * sizeof(Floats);
        size = (list + most * sizeof(Unit) + 63) / 64 * 64;
    }
};

static int64_t tile_room(const Codes &codes) { return TileRoom(codes).size; }

// List the units of a span whose scores come within the margin of a vector's largest so far, `top`.
TILE_TARGET static int64_t passing_tiles(
    const Floats *largest, int64_t first, int64_t units, const Floats *margin, Floats *top, Unit *list, int64_t most)
{
    Floats least[COLUMNS];
    for (int64_t unit = 0; unit < units; unit++)
#pragma GCC unroll 8
        for (int column = 0; column < COLUMNS; column++)
            top[column] = GREATER(top[column], largest[unit * COLUMNS + column]);
    for (int column = 0; column < COLUMNS; column++)
        least[column] = top[column] - margin[column];
    constexpr int WORDS = COLUMNS * TILE / 64;
    int64_t count = 0;
    for (int64_t unit = 0; unit < units; unit++) {
        uint64_t near[WORDS] = {};
#pragma GCC unroll 8
        for (int column = 0; column < COLUMNS; column++) {
            const uint64_t passes = AT_LEAST(largest[unit * COLUMNS + column], least[column]);
            near[column * TILE / 64] |= passes << column * TILE % 64;
        }
        for (int word = 0; word < WORDS; word++)
            for (uint64_t bits = near[word]; bits && count < most; bits &= bits - 1)
                list[count++] = {word * 64 + __builtin_ctzll(bits), (first + unit) * TILE};
    }
    return count;
}

TILE_TARGET static void configure_tiles()
{
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } shape;
    for (int tile = 0; tile < 8; tile++) {
        shape.bytes[tile] = SLOTS * sizeof(int16_t);
        shape.rows[tile] = TILE;
    }
    asm volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}

// As screen.
TILE_TARGET static int64_t screen_tiles(const Search &search, int64_t begin, int64_t end, char *memory)
{
    const Codes &codes = search.codes;
    const TileRoom room(codes);
    const int64_t dim = codes.dim, steps = steps_of(dim), size = steps * TILE_SIZE, all = codes.groups * PAIR;
    const int64_t fit = NEAR_CACHE / (size * (int64_t)sizeof(int16_t)) / PAIR * PAIR, part = fit < PAIR ? PAIR : fit;
    int16_t *columns = (int16_t *)memory;
    float *scratch = (float *)(memory + room.scratch);
    Floats *largest = (Floats *)(memory + room.largest);
    Unit *list = (Unit *)(memory + room.list);
    const bool fits = codes.longest >= SHORTEST && codes.longest <= LONGEST;
    float lost = 0;
#pragma omp simd reduction(max : lost)
    for (int64_t code = 0; code < (fits ? codes.k : 0); code++)
        lost = lost < codes.aside[code] ? codes.aside[code] : lost;
    lost = std::sqrt(lost);
    // After a failure the next `pause` batches go without.
    int pause = 0, wait = 0;
    int64_t without = 0;
    configure_tiles();
    for (int64_t start = begin; start < end; start += BATCH) {
        const int64_t stop = end - start < BATCH ? end : start + BATCH, used = (stop - start + TILE - 1) / TILE;
        Floats top[COLUMNS], margin[COLUMNS];
        bool left = wait || !fits;
        wait -= wait > 0;
        for (int column = 0; column < COLUMNS; column++) {
            top[column] = Floats{} - INFINITY;
            // Nothing comes within it of what fills up the last columns, whatever that is.
            margin[column] = Floats{} + NAN;
        }
        for (int column = 0; column < used && !left; column++) {
            const int64_t first = start + column * TILE, count = stop - first < TILE ? stop - first : TILE;
            const Sizes sizes = pack_columns(search.vectors + first * dim, count, dim, columns + column * size);
            const Floats exact = tile_margin(sizes, (float)codes.longest, lost, dim);
            for (int lane = 0; lane < count; lane++) {
                left = left || !(sizes.square[lane] <= LONGEST * LONGEST);
                margin[column][lane] = exact[lane];
            }
        }
        for (int64_t span = 0; span < all && !left; span += room.units) {
            const int64_t units = all - span < room.units ? all - span : room.units;
            for (int64_t first = 0; first < units; first += part)
                for (int column = 0; column < used; column += PAIR)
                    tile_scores(
                        columns + column * size, steps, codes.shorts + (span + first) * size,
                        (units - first < part ? units - first : part) / PAIR, scratch,
                        largest + first * COLUMNS + column);
            const int64_t count = passing_tiles(largest, span, units, margin, top, list, room.most);
            left = count == room.most;
            if (!left)
                exact_scores(
                    codes, search.vectors + start * dim, list, count, search.scores + start, search.nearest + start);
            pause = !left ? 0 : pause < 16 ? 2 * pause + 1 : pause;
            wait = pause;
        }
        if (left) {
            search.plain(start, stop);
            without += stop - start;
        }
    }
    _tile_release();
    return without;
}

}  // namespace VARIANT
